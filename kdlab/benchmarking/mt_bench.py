"""MT-Bench of one run: answers and judgements kept in its folder, scores for run.json.

bench = MTBench(config, folder / "mt_bench", device=device, progress=True)
before = bench.answer("before", answerer)
bench.rate("before", before)
bench.ratings("before", before)   # question by question
bench.compare(before, after)
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.benchmarking.jobs import Job, pair_jobs, single_jobs
from kdlab.benchmarking.judges import Judge, open_judge
from kdlab.benchmarking.judging import cost, cut_short, judge_missing, says, settled
from kdlab.benchmarking.lines import Lines, key_of
from kdlab.benchmarking.questions import read_bench
from kdlab.benchmarking.recipe import JUDGE
from kdlab.benchmarking.scores import Ratings, compared, rated
from kdlab.benchmarking.writing import Answered, Answerer
from kdlab.models.progress import say
from kdlab.teachers.options import Reach

if TYPE_CHECKING:
    import torch

    from kdlab.benchmarking.recipe import MTBenchConfig

FOLDER = "mt_bench"


class MTBench:
    """The questions that are asked, who judges, and what of both is in `folder` already."""

    def __init__(self, config: MTBenchConfig, folder: Path, *, device: torch.device, progress: bool) -> None:
        self.config, self.device, self.progress = config, device, progress
        self.bench = read_bench(config.path, modes=config.modes, count=config.questions)
        self.answers = Lines(folder / "answers.jsonl")
        self.judgments = Lines(folder / "judgments.jsonl")

    @cached_property
    def judge(self) -> Judge:
        """Opened where there is something to judge."""
        return open_judge(self.config.judge, device=self.device)

    def answer(self, stage: str, answerer: Answerer) -> Answered:
        """What a model answers; only what is not kept is written."""
        return answerer.answer(stage, self.bench.questions, self.config, self.answers, progress=self.progress)

    def rate(self, stage: str, given: Answered) -> dict[str, Any]:
        """The ratings of a model's answers (`scores.rated`), how many answers reached the limit of tokens
        (`limit_reached`), of how many prompts the model read a part only (`cut`), how many judgements without a rating
        reached theirs (`cut_short`), and the `cost`."""
        jobs = single_jobs(self.bench, given.turns, stage=stage, judge=self.judge.identity)
        self._ask(jobs, f"MT-Bench, {stage}")
        found = rated(jobs, [says(job, self.judgments) for job in jobs])
        return {
            **found,
            "limit_reached": given.limit_reached,
            "cut": given.cut,
            "cut_short": cut_short(jobs, self.judgments),
            "cost": cost(jobs, self.judgments, self.config.judge),
        }

    def priced(self, found: dict[str, Any]) -> dict[str, Any]:
        """What `rate` found in an earlier process, at the prices of now."""
        cost = found["cost"]
        return found | {"cost": cost | {"price": self.config.judge.price(cost["tokens_in"], cost["tokens_out"])}}

    def ratings(self, stage: str, given: Answered) -> Ratings:
        """What `rate` has found, question by question."""
        found: Ratings = {}
        for job in single_jobs(self.bench, given.turns, stage=stage, judge=self.judge.identity):
            found.setdefault(str(job.question.id), []).append(says(job, self.judgments))
        return found

    def compare(self, before: Answered, after: Answered) -> dict[str, Any]:
        """The model after training against itself before, in both orders (`scores.compared`), and the `cost`."""
        judge = self.judge.identity
        first = pair_jobs(self.bench, before.turns, after.turns, stage="before/after", judge=judge)
        swapped = pair_jobs(self.bench, after.turns, before.turns, stage="after/before", judge=judge)
        self._ask([*first, *swapped], "MT-Bench, before against after")
        orders = [
            (says(one, self.judgments), says(other, self.judgments)) for one, other in zip(first, swapped, strict=True)
        ]
        both = [*first, *swapped]
        return {
            **compared(first, orders),
            "cut_short": cut_short(both, self.judgments),
            "cost": cost(both, self.judgments, self.config.judge),
        }

    def asks(self) -> dict[str, Any]:
        """What names the questions and the judge prompts."""
        asked = [[question.id, question.turns, question.reference] for question in self.bench.questions]
        return {
            "questions": len(asked),
            "questions_hash": key_of(asked),
            "prompts_hash": key_of([[name, vars(prompt)] for name, prompt in sorted(self.bench.prompts.items())]),
        }

    def depends(self) -> list[Any]:
        """What scores depend on besides the model: not on where, how patiently and at which price the judge is asked,
        where the questions lie, and how many are answered at a time."""
        free = {"price_in", "price_out", *Reach.__annotations__}
        judge = {name: value for name, value in asdict(self.config.judge).items() if name not in free}
        own = {
            name: value for name, value in asdict(self.config).items() if name not in ("judge", "path", "batch_size")
        }
        return [own, judge, self.asks(), [question.category for question in self.bench.questions]]

    def about(self) -> dict[str, Any]:
        """For the record: who judged what, and where it is kept."""
        return {
            "judge": {"kind": self.config.judge.kind, "model": self.judge.name, "identity": self.judge.identity},
            **self.asks(),
            "modes": list(self.config.modes),
            "max_new_tokens": self.config.max_new_tokens,
            "answers": f"{FOLDER}/answers.jsonl",
            "judgments": f"{FOLDER}/judgments.jsonl",
        }

    def dismiss(self) -> None:
        """Let the judge go: a local one takes memory that training needs."""
        self.__dict__.pop("judge", None)

    def same_judge(self, earlier: dict[str, Any]) -> None:
        """Raise ValueError where not the judge of `earlier` (an `about`) would judge now."""
        if self.judge.identity != earlier["judge"]["identity"]:
            raise ValueError(
                f"{JUDGE}: {earlier['judge']['model']} judged before training, and {self.judge.name} would now, by "
                "other weights or options; name the first again, or delete benchmarks.json to have all judged by one"
            )

    def _ask(self, jobs: list[Job], what: str) -> None:
        tries = self.config.judge.tries
        left = sum(not settled(self.judgments.of(job.key), tries) for job in jobs)
        if left:
            say(f"{what}: {left} of {len(jobs)} judgements to ask of {self.judge.name}")
        judge_missing(jobs, self.judge, self.judgments, tries=tries, progress=self.progress)
