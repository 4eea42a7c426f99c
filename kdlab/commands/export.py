"""kdlab export: write a finished model in other forms (ONNX, 8 and 4 bits, GGUF), and verify each.

    kdlab export model.path=multirun/helpsteer2/default/model dataset=helpsteer2 variants=[onnx,onnx_int8]
    kdlab export model.path=multirun/quickstart/default/model dataset=python_docs variants=[onnx_w8]

The same command continues where it was interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence

from kdlab.commands.flags import Flags
from kdlab.commands.verb import run_verb


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 1 failed, 2 mistyped, 130 interrupted."""
    return run_verb("export", argv, _start)


def _start(flags: Flags) -> int:
    from kdlab.commands.export_jobs import work
    from kdlab.commands.jobs import start

    return start("export", flags, work)
