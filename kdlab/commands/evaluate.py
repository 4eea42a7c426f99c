"""kdlab evaluate: let a model answer a dataset's questions, and judge its answers.

    kdlab evaluate model.path=multirun/gsm8k/default/model dataset.split=test
    kdlab evaluate model.path=gpt2 writing=sampled rules=s1
    kdlab evaluate model.path=gpt2 --manual multirun/evaluate/model.path=gpt2/unresolved.csv

The same command continues where it was interrupted. Of a sweep (-m), every job is checked before the first starts.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace

from kdlab.commands.failures import answered
from kdlab.commands.flags import Flags, job_flags
from kdlab.config.mistakes import ConfigError


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 1 failed, 2 mistyped, 130 interrupted."""
    again = shlex.join(["kdlab", "evaluate", *argv])
    return answered(lambda: _main(argv), interrupted=f"interrupted; the same command continues: {again}")


def _main(argv: Sequence[str]) -> int:
    flags = job_flags("evaluate", argv)
    if flags.help:
        from kdlab.commands.job_help import help_text

        print(help_text("evaluate", flags.config_dir))
        return 0
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
