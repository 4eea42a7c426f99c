"""How much MT-Bench asks of models and of the judge, before any of them has said a word. Torch-free.

count_asked(config, read_bench(...), teacher=True).judgements   # {"teacher": 160, "before": 160, "after": 160}
"""

from __future__ import annotations

from dataclasses import dataclass

from kdlab.benchmarking.jobs import Job, pair_jobs, single_jobs
from kdlab.benchmarking.questions import Bench
from kdlab.benchmarking.recipe import MTBenchConfig

CHARACTERS = 4
"""Of a token of the questions and the judge prompts, which are English, in most tokenizers."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """`judgements` by whose answers they are of ("pairs": in both orders), each asked for once. `steps`: how often a
    model writes a token of a batch, at most, and `answer_tokens` what all models write. `tokens_in` and `tokens_out` of
    all judgements, where every answer and judgement has as many tokens as it may, and `price` of these."""

    questions: int
    models: tuple[str, ...]
    judgements: dict[str, int]
    steps: int
    answer_tokens: int
    tokens_in: int
    tokens_out: int
    price: float | None


def count_asked(config: MTBenchConfig, bench: Bench, *, teacher: bool) -> Asked:
    """Of a run; `teacher`: there is one that can write."""
    judge, count = config.judge, len(bench.questions)
    single, pairwise = "single" in config.modes, "pairwise" in config.modes
    models = (*(("teacher",) if teacher and config.teacher and single else ()), "before", "after")
    nothing = {question.id: ("", "") for question in bench.questions}
    jobs: dict[str, list[Job]] = {}
    if single:
        jobs |= {stage: single_jobs(bench, nothing, stage=stage, judge="") for stage in models}
    if pairwise:
        jobs["pairs"] = 2 * pair_jobs(bench, nothing, nothing, stage="pairs", judge="")
    every = [job for found in jobs.values() for job in found]
    answers = sum(job.turn * (2 if job.mode == "pairwise" else 1) for job in every)
    characters = sum(len(job.system) + len(job.user) for job in every)
    tokens_in = characters // CHARACTERS + answers * config.max_new_tokens
    tokens_out = len(every) * judge.max_tokens
    return Asked(
        questions=count,
        models=models,
        judgements={stage: len(found) for stage, found in jobs.items()},
        steps=2 * -(-count // config.batch_size) * config.max_new_tokens,
        answer_tokens=len(models) * 2 * count * config.max_new_tokens,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        price=judge.price(tokens_in, tokens_out),
    )
