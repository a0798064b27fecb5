# The Errata shell hook: records what you run as the answer to what you asked. Read docs/cli.md on privacy.
#
# A question is opened by a comment line ("# how do I ...") or by `errata search` at this terminal, and closed by
# the first command that succeeds, by a lone "#", after 15 minutes, or after 5 commands. Only while one is open is
# anything recorded, and never a line that begins with a space. `unset ERRATA_SESSION` switches it off in this shell.

export ERRATA_SESSION="${XDG_RUNTIME_DIR:-${HOME-/nonexistent}/.cache}/errata/session-$$-$RANDOM$RANDOM"
__errata_question='' __errata_found='' __errata_id='' __errata_asked_s=0 __errata_left=0

# Takes a line that was typed, empty when there was none to be seen, and, if it was a command, its exit code.
__errata_typed() {
  # Whatever it is called, a line that left a question in the file has asked it.
  if [[ -s $ERRATA_SESSION ]]; then
    case $1 in
      '' | [[:space:]]*) ;;
      *)
        __errata_found=$(<"$ERRATA_SESSION") __errata_question=''
        __errata_asked_s=$SECONDS __errata_left=5
        ;;
    esac
    : >|"$ERRATA_SESSION"
    return
  fi
  case $1 in
    '' | [[:space:]]*) ;;
    '#') __errata_left=0 ;;
    '# '*[![:space:]]*)
      __errata_question=${1#??} __errata_found=''
      __errata_id="shell-$$-$RANDOM$RANDOM$RANDOM"
      __errata_asked_s=$SECONDS __errata_left=5
      ;;
    # What only asks or moves about answers nothing.
    '#'* | errata | 'errata '* | cd | 'cd '* | pushd* | popd* | clear | fg | 'fg '* | bg | 'bg '* | exit | history | 'history '*) ;;
    *)
      if [[ $__errata_left -gt 0 && $((SECONDS - __errata_asked_s)) -lt 900 ]]; then
        __errata_left=$((__errata_left - 1))
        # In the background of a shell of its own: no word about it, and nothing to wait for. With the time, as
        # two of them may overtake each other. Through a pipe: others can read what is passed as an argument.
        (
          builtin printf '%s\0' "$__errata_question" "$__errata_id" "$__errata_found" "$1" "$2" "$PWD" \
            "${EPOCHREALTIME-$(command date +%s).0}" "$__errata_mode" | command nice errata record --from-hook >/dev/null 2>&1 &
        )
        if [[ $2 -eq 0 ]]; then __errata_left=0; fi
      fi
      ;;
  esac
}
