
# The last entry of the history, with its number: when it changes, a line was typed that the history keeps.
__errata_entry() { HISTTIMEFORMAT='' builtin history 1 2>/dev/null; }

# First at the prompt, where $? is still that of the command; gives it back for those that follow.
__errata_before_prompt() {
  local code=$? entry
  if [[ -n ${ERRATA_SESSION-} ]]; then
    entry=$(__errata_entry)
    if [[ -n $__errata_settled && $entry != "$__errata_seen" && $entry =~ ^\ *[0-9]+[*\ ]\ (.*)$ ]]; then
      __errata_typed "${BASH_REMATCH[1]}" "$code"
    else
      __errata_typed '' "$code"
    fi
  fi
  return "$code"
}

# Last at the prompt: others may have changed the history meanwhile, as by reading what other shells wrote.
__errata_after_prompt() {
  local code=$?
  if [[ -n ${ERRATA_SESSION-} ]]; then
    __errata_seen=$(__errata_entry)
    __errata_settled=1
  fi
  return "$code"
}

__errata_seen='' __errata_settled=''
if [[ $- == *i* && ${__errata_hooked-} != "$$" ]]; then
  __errata_hooked=$$
  if [[ $(declare -p PROMPT_COMMAND 2>/dev/null) == 'declare -a'* ]]; then
    PROMPT_COMMAND=(__errata_before_prompt "${PROMPT_COMMAND[@]}" __errata_after_prompt)
  else
    PROMPT_COMMAND="__errata_before_prompt"$'\n'"${PROMPT_COMMAND-}"$'\n'"__errata_after_prompt"
  fi
fi
