"""What the verbs that take options have in common: flags, help, and one line for what fails."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from kdlab.commands.failures import answered
from kdlab.commands.flags import job_flags


def run_verb(verb: str, argv: Sequence[str], start: Callable[..., int]) -> int:
    """The exit status of `kdlab <verb> <argv>`: 0 done, 1 failed, 2 mistyped, 130 interrupted. `start(flags)` does the
    work, and imports what it needs."""
    again = shlex.join(["kdlab", verb, *argv])

    def work() -> int:
        flags = job_flags(verb, argv)
        if not flags.help:
            return start(flags)
        from kdlab.commands.job_help import help_text

        print(help_text(verb, flags.config_dir))
        return 0

    return answered(work, interrupted=f"interrupted; the same command continues: {again}")
