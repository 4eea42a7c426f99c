"""kdlab publish: show what would go to the hub of a run: model, variants, card; with dry_run=false send it.

    kdlab publish run=multirun/quickstart/default repo=me/student
    HF_TOKEN=... kdlab publish run=multirun/quickstart/default repo=me/student dry_run=false

The same command continues an upload that was interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence

from kdlab.commands.flags import Flags
from kdlab.commands.verb import run_verb


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 1 failed, 2 mistyped, 130 interrupted."""
    return run_verb("publish", argv, _start)


def _start(flags: Flags) -> int:
    from kdlab.commands.jobs import start
    from kdlab.commands.publish_jobs import work

    return start("publish", flags, work)
