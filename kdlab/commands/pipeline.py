"""kdlab pipeline: run stages, each a verb with options, the outputs of one the inputs of the next.

    kdlab pipeline experiment=helpsteer2 --dry-run
    kdlab pipeline -m experiment=helpsteer2 'fold=range(0,10)'

The options of every stage are checked before the first one starts. The same command continues at the stage that was
interrupted; a stage that has finished is not run again.
"""

from __future__ import annotations

from collections.abc import Sequence

from kdlab.commands.flags import Flags
from kdlab.commands.verb import run_verb


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 1 failed, 2 mistyped, 130 interrupted."""
    return run_verb("pipeline", argv, _start)


def _start(flags: Flags) -> int:
    from kdlab.commands.jobs import start
    from kdlab.commands.pipeline_jobs import show_plans, together, work

    if flags.dry_run and not flags.show:
        return show_plans(flags)
    return start("pipeline", flags, work, together=together)
