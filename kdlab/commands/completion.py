"""kdlab completion: let the shell complete verbs, groups, options and their keys.

    eval "$(kdlab completion bash)"       in ~/.bashrc
    eval "$(kdlab completion zsh)"        in ~/.zshrc, after compinit
    kdlab completion fish | source        in ~/.config/fish/config.fish

The scripts ask `kdlab completion query WORD...`: the words after `kdlab`, the last one being typed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kdlab.cli import VERBS
from kdlab.commands.flags import FLAGS, TELLS

# bash splits words at "=" and ":"; so the word is taken from the line itself, and what lies before the last such
# character is cut from each answer again
BASH = r"""_kdlab() {
    local line="${COMP_LINE:0:COMP_POINT}" word words reply cut
    word="${line##* }"
    read -ra words <<< "${line% *}"
    mapfile -t reply < <("${words[0]}" completion query "${words[@]:1}" "$word" 2>/dev/null)
    cut="${word%"${word##*[=:]}"}"
    [[ $COMP_WORDBREAKS == *=* ]] || cut=""
    COMPREPLY=()
    for word in "${reply[@]}"; do COMPREPLY+=("${word#"$cut"}"); done
    if [[ ${#COMPREPLY[@]} -eq 0 ]]; then compopt -o default 2>/dev/null; fi
    if [[ ${#COMPREPLY[@]} -ne 1 || ${COMPREPLY[0]} == *[.=] ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -F _kdlab kdlab
"""
ZSH = r"""_kdlab() {
    local -a reply
    reply=("${(@f)$(${words[1]} completion query "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$reply" ]]; then compadd -S '' -- "${reply[@]}"; else _files; fi
}
compdef _kdlab kdlab
"""
FISH = r"""function _kdlab
    set -l words (commandline -opc)
    $words[1] completion query $words[2..-1] (commandline -ct) 2>/dev/null
end
complete -c kdlab -f -a '(_kdlab)'
"""
SHELLS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 2 mistyped."""
    if argv and argv[0] == "query":
        print("\n".join(query(argv[1:])))
        return 0
    if len(argv) == 1 and argv[0] in SHELLS:
        print(SHELLS[argv[0]], end="")
        return 0
    if len(argv) == 1 and argv[0] in ("-h", "--help"):
        print((__doc__ or "").strip())
        return 0
    print(f"kdlab completion {' '.join(argv)}: write kdlab completion {'|'.join(SHELLS)}", file=sys.stderr)
    return 2


def query(words: Sequence[str]) -> list[str]:
    """The completions of the last of `words`, which are those after `kdlab`."""
    if len(words) <= 1:
        return [verb for verb in VERBS if verb.startswith(words[0] if words else "")]
    verb, before, word = words[0], words[1:-1], words[-1]
    if verb == "completion":
        return [shell for shell in SHELLS if shell.startswith(word)]
    if verb not in FLAGS or (before and before[-1] in ("-c", "--config-dir", "--json", "--memory")):
        return []
    if word.startswith("-"):
        flags = [flag.split(" ")[0] for both in FLAGS[verb] for flag in both.split(", ")]
        return [flag for flag in flags if flag.startswith(word)]
    from kdlab.config.completing import candidates

    return candidates(TELLS.get(verb, verb), before, word)
