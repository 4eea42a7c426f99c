"""kdlab generate: let a model write answers to a dataset's questions, and keep them as data.

    kdlab generate model.path=HuggingFaceTB/SmolLM2-135M-Instruct dataset=gsm8k keep=correct
    kdlab generate model.path=gpt2 dataset.path=questions.jsonl writing=sampled writing.draws=8

The same command continues where it was interrupted. Of a sweep (-m), every job is checked before the first starts.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from kdlab.commands.failures import answered
from kdlab.commands.flags import job_flags


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 1 failed, 2 mistyped, 130 interrupted."""
    again = shlex.join(["kdlab", "generate", *argv])
    return answered(lambda: _main(argv), interrupted=f"interrupted; the same command continues: {again}")


def _main(argv: Sequence[str]) -> int:
    flags = job_flags("generate", argv)
    if flags.help:
        from kdlab.commands.job_help import help_text

        print(help_text("generate", flags.config_dir))
        return 0
    from kdlab.commands.answer_jobs import generating
    from kdlab.commands.jobs import start

    return start("generate", flags, generating)
