"""kdlab prepare: read a dataset with labels, and write down its classes, its folds, and what leaks between them.

    kdlab prepare dataset=helpsteer2 dataset.folds=10
    kdlab prepare dataset=banking77 dataset.path=../shared/data/banking77 dataset.labels.column=category

No model is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from kdlab.commands.flags import Flags
from kdlab.commands.verb import run_verb


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 1 failed, 2 mistyped, 130 interrupted."""
    return run_verb("prepare", argv, _start)


def _start(flags: Flags) -> int:
    from kdlab.commands.jobs import start
    from kdlab.commands.prepare_jobs import work

    return start("prepare", flags, work)
