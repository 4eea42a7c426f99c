"""kdlab train: teach a student.

    kdlab train experiment=quickstart
    kdlab train teacher=gpt2_xl student=gpt2 loss=reverse_kl dataset=dolly
    kdlab train -m experiment=smoke loss=forward_kl,reverse_kl seed=0,1

Everything is checked before anything is loaded: of a sweep, every job before the first starts.
"""

from __future__ import annotations

from collections.abc import Sequence

from kdlab.commands.flags import Flags
from kdlab.commands.verb import run_verb


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 1 failed, 2 mistyped, 130 interrupted."""
    return run_verb("train", argv, _start)


def _start(flags: Flags) -> int:
    from kdlab.commands.jobs import start
    from kdlab.commands.train_jobs import together, work

    return start("train", flags, work, together=together)
