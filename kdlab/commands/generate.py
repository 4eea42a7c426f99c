"""kdlab generate: let a model write answers to a dataset's questions, and keep them as data.

    kdlab generate model.path=HuggingFaceTB/SmolLM2-135M-Instruct dataset=gsm8k keep=correct
    kdlab generate model.path=gpt2 dataset.path=questions.jsonl writing=sampled writing.draws=8

The same command continues where it was interrupted. Of a sweep (-m), every job is checked before the first starts.
"""

from __future__ import annotations

from collections.abc import Sequence

from kdlab.commands.flags import Flags
from kdlab.commands.verb import run_verb


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 1 failed, 2 mistyped, 130 interrupted."""
    return run_verb("generate", argv, _start)


def _start(flags: Flags) -> int:
    from kdlab.commands.answer_jobs import generating
    from kdlab.commands.jobs import start

    return start("generate", flags, generating)
