# Completes `dstack` and `npx dstack`.
_dstack() {
  local word="${COMP_WORDS[COMP_CWORD]}" said="" it at=1
  # After npx the first word is ours.
  [ "${COMP_WORDS[0]}" = npx ] && { [ "${COMP_WORDS[1]}" = dstack ] || return; at=2; }
  for it in "${COMP_WORDS[@]:at:COMP_CWORD-at}"; do case "$it" in -*) break ;; *) said="$said $it" ;; esac; done
  said="${said# }"
  # A command's own words are after its name.
  while :; do
    case "$said" in
    @CASES@
    *)
      [ "${said% *}" = "$said" ] && return
      said="${said% *}"
      continue
      ;;
    esac
    return
  done
}
complete -o default -o filenames -F _dstack dstack npx
