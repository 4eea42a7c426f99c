"""kdlab train: teach a student.

    kdlab train experiment=quickstart
    kdlab train teacher=gpt2_xl student=gpt2 loss=reverse_kl dataset=dolly
    kdlab train -m experiment=smoke loss=forward_kl,reverse_kl seed=0,1

Everything is checked before anything is loaded: of a sweep, every job before the first starts.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from kdlab.commands.failures import answered
from kdlab.commands.flags import job_flags


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 1 failed, 2 mistyped, 130 interrupted."""
    again = shlex.join(["kdlab", "train", *argv])
    return answered(lambda: _main(argv), interrupted=f"interrupted; the same command continues: {again}")


def _main(argv: Sequence[str]) -> int:
    flags = job_flags("train", argv)
    if flags.help:
        from kdlab.commands.job_help import help_text

        print(help_text("train", flags.config_dir))
        return 0
    from kdlab.commands.jobs import start
    from kdlab.commands.train_jobs import together, work

    return start("train", flags, work, together=together)
