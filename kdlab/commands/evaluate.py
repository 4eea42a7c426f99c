"""kdlab evaluate: let a model answer a dataset's questions, and judge its answers.

    kdlab evaluate model.path=multirun/gsm8k/default/model dataset.split=test
    kdlab evaluate model.path=gpt2 writing=sampled rules=s1
    kdlab evaluate model.path=gpt2 --manual multirun/evaluate/model.path=gpt2/unresolved.csv

The same command continues where it was interrupted. Of a sweep (-m), every job is checked before the first starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kdlab.commands.flags import Flags
from kdlab.commands.verb import run_verb
from kdlab.config.mistakes import ConfigError


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 1 failed, 2 mistyped, 130 interrupted."""
    return run_verb("evaluate", argv, _start)


def _start(flags: Flags) -> int:
    from kdlab.commands.answer_jobs import compared, evaluating
    from kdlab.commands.jobs import start

    return start("evaluate", with_manual(flags), evaluating, together=compared)


def with_manual(flags: Flags) -> Flags:
    """The flags with `--manual FILE` as the option `manual=FILE`. Raises ConfigError in a sweep: each of its jobs has
    answers, and grades, of its own."""
    if flags.manual is None:
        return flags
    if flags.multirun:
        raise ConfigError("--manual: its grades are of one job; give the options of that job, without -m")
    quoted = flags.manual.replace("\\", "\\\\").replace("'", "\\'")
    return replace(flags, overrides=[*flags.overrides, f"manual='{quoted}'"])
