
zmodload zsh/datetime 2>/dev/null

# Sees each line as it was typed, comments too, whether or not the history keeps it.
__errata_read() {
  __errata_line=${1%$'\n'}
  return 0
}

# First at the prompt, where $? is still that of the command.
__errata_before_prompt() {
  local code=$? line=$__errata_line
  emulate -L zsh
  __errata_line=''
  if [[ -n ${ERRATA_SESSION-} ]]; then
    __errata_typed "$line" "$code"
  fi
  return $code
}

__errata_line=''
if [[ -o interactive && ${__errata_hooked-} != "$$" ]]; then
  __errata_hooked=$$
  typeset -ga precmd_functions zshaddhistory_functions
  precmd_functions=(__errata_before_prompt $precmd_functions)
  zshaddhistory_functions+=(__errata_read)
fi
