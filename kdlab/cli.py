"""The command line: `kdlab <verb> ...`. A verb is a module of `kdlab.commands`, imported when it is asked for."""

from __future__ import annotations

import difflib
import importlib
import logging
import sys
from collections.abc import Sequence

from kdlab import __version__

VERBS = {
    "train": "teach a student: distil it from a teacher, or fine-tune it with teacher=none",
    "cache": "keep what a teacher says on disk; `kdlab cache verify PATH` looks for damage",
    "generate": "let a model write answers to a dataset's questions",
    "evaluate": "let a model answer questions, and judge its answers",
    "prepare": "classes, folds and leakage of a dataset with labels",
    "export": "write a model in other forms (ONNX, 8 and 4 bits), and verify each",
    "predict": "classify or complete a text with any model or variant",
    "publish": "show what would go to the hub, or send it",
    "pipeline": "run stages, the outputs of one the inputs of the next",
    "check": "before a long run: would it fit and work?",
    "report": "make a page and a table of one run or many",
    "completion": 'print a shell completion script: eval "$(kdlab completion bash)"',
}

HELP = """kdlab distils large language models into small ones and says, with numbers, whether it worked.

usage: kdlab <verb> [options] [group=option] [key=value] ...

verbs:
{verbs}

`kdlab <verb> --help` says more. Try: kdlab train experiment=quickstart
KDLAB_DEBUG=1 shows tracebacks."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 failed, 2 mistyped, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP.format(verbs="\n".join(f"  {verb:<12}{what}" for verb, what in VERBS.items())))
        return 0
    if words[0] in ("-V", "--version"):
        print(f"kdlab {__version__}")
        return 0
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        print(f"kdlab: {unknown(verb, rest)}", file=sys.stderr)
        return 2
    quieten()
    status = importlib.import_module(f"kdlab.commands.{verb}").main(rest)
    assert isinstance(status, int)
    return status


def quieten() -> None:
    """transformers imports torchao wherever it is installed, and torchao then writes of kernels for other devices."""
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)


def unknown(verb: str, rest: Sequence[str]) -> str:
    """One line about a verb that does not exist."""
    if "=" in verb or verb.startswith("-"):
        return f"{verb}: a verb comes first; did you mean: kdlab train {' '.join([verb, *rest])}"
    near = difflib.get_close_matches(verb.lower(), VERBS, n=2, cutoff=0.5)
    guess = f"did you mean {' or '.join(near)}?" if near else f"the verbs are {', '.join(VERBS)}"
    return f"{verb}: no such verb; {guess}"
