"""Let a classifier decide about every row: longest first, a batch at a time, from where a killed process stopped.

decisions.jsonl has a line for each row: `row` of the source, `question` (a hash of its text, so that two classifiers
are compared on the same rows only), `label`, `predicted` and `correct`, by name, and the `probabilities` in the order
of the model's classes. Of a regression `label` and `predicted` are numbers, the other two None.

Shape letters: N rows, C classes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdlab.answering.answers_file import Answer, AnswersFile, Key

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kdlab.exporting.variants import Variant
    from kdlab.text.task import Task

DECISIONS = "decisions.jsonl"
DIGITS = 7
"""Significant digits of a number that is kept: as many as a float32 has."""
TIMED = 64
"""Single rows that are timed."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A row that is decided about: its number in the source, its text's hash, its tokens, and its label: a class by its
    id in the model, or a number."""

    row: int
    question: str
    ids: list[int]
    label: float


def text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint(asked: Sequence[Asked]) -> str:
    """A hash of all rows, as the model reads them, and of their labels."""
    parts = [(one.row, one.ids, one.label) for one in asked]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def drawn(rows: int, count: int | None) -> list[int]:
    """Which rows are decided about: all, or `count` of them, drawn the same way for every model, for files are often
    sorted by class."""
    if count is None or count >= rows:
        return list(range(rows))
    return sorted(np.random.default_rng(0).permutation(rows)[:count].tolist())


def plan(asked: Sequence[Asked], batch_size: int) -> list[list[int]]:
    """Indices of rows in batches of like length, the longest first, so that memory fails early, if at all."""
    order = sorted(range(len(asked)), key=lambda i: (-len(asked[i].ids), i))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def decide_missing(
    variant: Variant,
    task: Task,
    asked: Sequence[Asked],
    file: AnswersFile,
    *,
    batch_size: int,
    after: Callable[[list[Answer]], None],
) -> None:
    """Decide about the rows that `file` does not have yet. `after` is called with each batch that has become safe on
    the disk."""
    batches = plan(asked, batch_size)
    keys: list[list[Key]] = [[(asked[i].row, 0) for i in batch] for batch in batches]
    for number in file.resume(keys):
        rows = [asked[i] for i in batches[number]]
        given = given_of(variant.logits([row.ids for row in rows]), task)
        answers = [_decision(row, told, task) for row, told in zip(rows, given, strict=True)]
        file.append(answers)
        after(answers)


def given_of(logits_NC: NDArray[np.float32], task: Task) -> NDArray[np.float64]:
    """What the rows are given, in float64: probabilities `[N, C]`, or of a regression the number `[N, 1]`."""
    given_NC = logits_NC.astype(np.float64)
    if task.is_regression:
        return given_NC
    raised_NC = np.exp(given_NC - given_NC.max(1, keepdims=True))
    result: NDArray[np.float64] = raised_NC / raised_NC.sum(1, keepdims=True)
    return result


def _decision(row: Asked, given_C: NDArray[np.float64], task: Task) -> Answer:
    given = [float(f"{value:.{DIGITS}g}") for value in given_C.tolist()]
    told: Answer = {"row": row.row, "question": row.question}
    if task.is_regression:
        return told | {"label": row.label, "predicted": given[0], "correct": None, "probabilities": None}
    label, predicted = int(row.label), int(np.argmax(given))
    named = {"label": task.names[label], "predicted": task.names[predicted]}
    return told | named | {"correct": label == predicted, "probabilities": given}


def single_rows(variant: Variant, asked: Sequence[Asked]) -> dict[str, float]:
    """Milliseconds that the variant takes for one row at a time, median and 95th percentile, over at most `TIMED` rows
    drawn the same way for every model."""
    chosen = np.random.default_rng(0).permutation(len(asked))[:TIMED]
    variant.logits([asked[chosen[0]].ids])
    seconds = []
    for i in chosen:
        began = time.perf_counter()
        variant.logits([asked[i].ids])
        seconds.append(time.perf_counter() - began)
    p50, p95 = np.percentile(seconds, [50, 95])
    return {"p50_ms": 1000 * float(p50), "p95_ms": 1000 * float(p95)}


def measured(answers: Sequence[Answer], task: Task, *, usual: float | None) -> dict[str, Any]:
    """Everything that decisions are worth beside their labels; `usual` is the id of the commonest class of the training
    rows, or their mean."""
    from kdlab.metrics.classification import classification_metrics, regression_metrics

    if task.is_regression:
        return dict(
            regression_metrics([one["predicted"] for one in answers], [one["label"] for one in answers], mean=usual)
        )
    ids = {name: i for i, name in enumerate(task.names)}
    return classification_metrics(
        [one["probabilities"] for one in answers],
        [ids[one["label"]] for one in answers],
        task.names,
        majority=None if usual is None else int(usual),
    )
