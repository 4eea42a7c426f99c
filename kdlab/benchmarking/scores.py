"""MT-Bench as numbers: means of ratings, how far they moved, and who won how often (Zheng et al., 2023). Torch-free."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from kdlab.benchmarking.jobs import Job
from kdlab.benchmarking.moves import Move, move
from kdlab.benchmarking.questions import Question
from kdlab.benchmarking.verdicts import HIGHEST, LOWEST, same, winner
from kdlab.proportions import over_questions

WORTH = {"first": 0.0, "tie": 0.5, "second": 1.0}
"""What a comparison counts for the second of two models."""

Ratings = dict[str, list[float | None]]
"""The ratings of both turns by question id, None where none was read."""


def rated(jobs: Sequence[Job], ratings: Sequence[float | None]) -> dict[str, Any]:
    """Means of the ratings from 1 to 10: `overall` (both turns alike), `turn1`, `turn2`, and of each category; None of
    none. `interval` holds the overall mean of all such questions in about 95 % of cases (Student's t over the means of
    the questions); `count` ratings were read, and `unparsed` judgements, which enter no mean, could not be."""
    pairs = [(job, value) for job, value in zip(jobs, ratings, strict=True) if value is not None]
    categories = sorted({job.question.category for job in jobs})
    questions: defaultdict[int, list[float]] = defaultdict(list)
    for job, value in pairs:
        questions[job.question.id].append(value)
    span = HIGHEST - LOWEST
    interval = None
    if questions:
        _, ends = over_questions([(fmean(values) - LOWEST) / span for values in questions.values()])
        interval = [LOWEST + span * end for end in ends]
    return {
        "overall": _mean([value for _, value in pairs]),
        "turn1": _mean([value for job, value in pairs if job.turn == 1]),
        "turn2": _mean([value for job, value in pairs if job.turn == 2]),
        "categories": {
            name: _mean([value for job, value in pairs if job.question.category == name]) for name in categories
        },
        "interval": interval,
        "count": len(pairs),
        "unparsed": len(jobs) - len(pairs),
    }


def moved(questions: Sequence[Question], before: Ratings, after: Ratings) -> dict[str, Any]:
    """How far the ratings moved from `before` to `after`, question by question: `overall` (of a question the mean over
    its turns), `turn1`, `turn2`, and of each of the `categories`; None where no judgement of both was read."""

    def over(wanted: Sequence[Question], *turns: int) -> Move | None:
        gains = []
        for pairs in (zip(before[str(q.id)], after[str(q.id)], strict=True) for q in wanted):
            of_turns = [pair for turn, pair in enumerate(pairs, start=1) if turn in turns]
            own = [b - a for a, b in of_turns if a is not None and b is not None]
            gains += [fmean(own)] if own else []
        return move(gains)

    categories = sorted({question.category for question in questions})
    return {
        "overall": over(questions, 1, 2),
        "turn1": over(questions, 1),
        "turn2": over(questions, 2),
        "categories": {name: over([q for q in questions if q.category == name], 1, 2) for name in categories},
    }


def compared(jobs: Sequence[Job], orders: Sequence[tuple[str | None, str | None]]) -> dict[str, Any]:
    """Before against after, turn by turn, of the verdicts with before as A and with after as A.

    `wins` of the model after training, `losses` and `ties`, `count` in all. A comparison is won only where both orders
    say so; `order_decided` ties are those where they contradict each other. `win_rate` counts a tie half; `interval`
    holds it in about 95 % of cases (Student's t over questions, whose two turns are not independent). `unparsed`
    comparisons, of which a verdict could not be read, are left out.
    """
    counts = dict.fromkeys(WORTH, 0)
    decided, questions = 0, defaultdict[int, list[float]](list)
    for job, (first, swapped) in zip(jobs, orders, strict=True):
        if first is None or swapped is None:
            continue
        found = winner(first, swapped)
        counts[found] += 1
        decided += not same(first, swapped)
        questions[job.question.id].append(WORTH[found])
    count = sum(counts.values())
    interval = None if not count else [*over_questions([fmean(worth) for worth in questions.values()])[1]]
    return {
        "wins": counts["second"],
        "losses": counts["first"],
        "ties": counts["tie"],
        "order_decided": decided,
        "count": count,
        "unparsed": len(jobs) - count,
        "win_rate": (counts["second"] + counts["tie"] / 2) / count if count else None,
        "interval": interval,
    }


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
