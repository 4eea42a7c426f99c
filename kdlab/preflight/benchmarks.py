"""What the benchmarks of others take: MT-Bench and its judge, and the tasks of lm-evaluation-harness.

A step of writing a token for a batch reads every weight once, and takes 2 operations a weight for each of its rows:
whichever is slower, and a little besides. What is only read takes a forward pass with all its logits.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kdlab.benchmarking.asking import Asked
from kdlab.benchmarking.harness_requests import Requests
from kdlab.preflight.duration import SLOWER, forward, head
from kdlab.preflight.machine import Speed
from kdlab.preflight.sketch import Sketch, Sketches
from kdlab.preflight.workload import Reading

if TYPE_CHECKING:
    from kdlab.training.recipe import TrainConfig

JUDGEMENT = 10.0
"""Seconds that a server is taken to need for a judgement."""
A_STEP = 0.01
"""Seconds of a step's calls, however small the model. Measured with two layers on a busy processor: 0.012."""


@dataclass(frozen=True, kw_only=True)
class Suites:
    """What they ask. `judge` is a local one, None where a server judges; `requests` are by task."""

    asked: Asked | None
    judge: Sketch | None
    requests: dict[str, Requests]

    def as_dict(self) -> dict[str, Any]:
        return {
            "mt_bench": None if self.asked is None else asdict(self.asked),
            "harness": {task: asdict(requests) for task, requests in self.requests.items()},
        }


def suites_seconds(
    suites: Suites, config: TrainConfig, models: Sketches, *, speed: Speed, teacher_speed: Speed
) -> dict[str, float]:
    """Seconds by what takes them, with all answers as long as they may be, each judged once."""
    found: dict[str, float] = {}
    mt_bench, harness = config.benchmark.mt_bench, config.benchmark.harness
    if mt_bench is not None and suites.asked is not None:
        asked = suites.asked
        found["MT-Bench's answers"] = sum(
            asked.steps * write_seconds(side, mt_bench.batch_size, its)
            for side, its in _sides(models, speed, teacher_speed, teacher="teacher" in asked.models)
        )
        found["MT-Bench's judge"] = judge_seconds(suites, config, speed)
    if harness is not None:
        read, steps = (sum(getattr(r, name) for r in suites.requests.values()) for name in ("read", "steps"))
        asked_of = max(1, sum(r.requests for r in suites.requests.values()))
        found["lm-evaluation-harness"] = sum(
            read_seconds(side, read, read // asked_of, its) + steps * write_seconds(side, harness.batch_size, its)
            for side, its in _sides(models, speed, teacher_speed, teacher=harness.teacher)
        )
    return found


def judge_seconds(suites: Suites, config: TrainConfig, speed: Speed | None) -> float:
    """Of all judgements. A server's `speed` is not known."""
    assert suites.asked is not None
    assert config.benchmark.mt_bench is not None
    judge, count = config.benchmark.mt_bench.judge, sum(suites.asked.judgements.values())
    batches = -(-count // judge.concurrency)
    if suites.judge is None or speed is None:
        return batches * JUDGEMENT
    return batches * judge.max_tokens * write_seconds(suites.judge, judge.concurrency, speed)


def write_seconds(side: Sketch, batch_size: int, speed: Speed) -> float:
    """Of one token of every row of a batch."""
    reading = side.size.bytes / (speed.copied / 2)
    return A_STEP + max(reading, SLOWER * 2 * side.size.parameters * batch_size / speed.products)


def read_seconds(side: Sketch, tokens: int, width: int, speed: Speed) -> float:
    """Of so many tokens with all their logits, in texts of about `width`."""
    reads = Reading(positions=tokens, rows=tokens, source=tokens if side.seq2seq else 0)
    products = (forward(side, reads, width=width) + head(side, reads)) / speed.products
    return SLOWER * (products + tokens * side.vocabulary / speed.softmaxes)


def _sides(models: Sketches, speed: Speed, teacher_speed: Speed, *, teacher: bool) -> list[tuple[Sketch, Speed]]:
    """Who is asked: the student before and after, and a teacher that is a model here."""
    found = [(models.student, speed)] * 2
    return [*found, (models.teacher, teacher_speed)] if teacher and models.teacher is not None else found
