"""How well classes or numbers are decided on held-out rows, by student and teacher in one pass.

    judged(pair, data.heldout(), device=device).student["macro_f1"]

Shape letters: N rows, C classes (1 for a number).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from kdlab.metrics.classification import Decisions
from kdlab.metrics.heldout import RowSums, measure
from kdlab.models.head import evaluating
from kdlab.rows import Projected, Rows, whole

if TYPE_CHECKING:
    from torch import Tensor

    from kdlab.batch import Batch
    from kdlab.rows import Signal
    from kdlab.text.task import Task
    from kdlab.training.pair import ModelPair

OWN = ("perplexity", "teacher_perplexity")
"""What the sums of rows tell that means nothing of classes."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Metrics of the student, and of its teacher (None where there is none)."""

    student: dict[str, Any]
    teacher: dict[str, Any] | None


def judged(pair: ModelPair, batches: Iterable[Batch], *, device: torch.device) -> Judged:
    """`metrics.classification` over all rows of both models, with `rows` and `tokens`; of classes also `nll` and, of a
    student with a teacher, `kl` and `top1_agreement`, as `metrics.heldout` has them."""
    pair, sums, tokens = pair.judged(), RowSums(), 0
    deciding = pair.deciding
    assert deciding is not None
    of_student, of_teacher = (Decisions(deciding.task, usual=deciding.usual) for _ in range(2))
    with evaluating(pair.split.model), torch.no_grad():
        for batch in batches:
            rows = _rows(pair, batch.to(device))
            tokens += batch.tokens
            of_student.add(numbers(rows.student), rows.labels_N)
            if rows.teacher is not None:
                of_teacher.add(numbers(rows.teacher), rows.labels_N)
            if not deciding.task.is_regression:
                sums += measure(rows)
    found = {"rows": len(of_student.labels), **({} if deciding.task.is_regression else sums.result())}
    theirs = {"rows": found["rows"]}
    if "teacher_nll" in found:
        theirs["nll"] = found.pop("teacher_nll")
    mine = {name: value for name, value in found.items() if name not in OWN} | {"tokens": tokens}
    taught = pair.teacher is not None
    return Judged(student=mine | of_student.result(), teacher=theirs | of_teacher.result() if taught else None)


def told(pair: ModelPair, batch: Batch, *, device: torch.device) -> list[dict[str, str]]:
    """Of each row what its `label` is, and what `student` and `teacher` (where there is one) decide, in words."""
    pair = pair.judged()
    assert pair.deciding is not None
    task = pair.deciding.task
    with evaluating(pair.split.model), torch.no_grad():
        rows = _rows(pair, batch.to(device))
    said = {"label": _labels(task, rows.labels_N), "student": _decided(task, rows.student)}
    if rows.teacher is not None:
        said["teacher"] = _decided(task, rows.teacher)
    return [dict(zip(said, row, strict=True)) for row in zip(*said.values(), strict=True)]


def numbers(signal: Signal) -> Tensor:
    """The logits of every class, or the one number, of each row `[N, C]`."""
    side = whole(signal, "dataset.labels")
    return (side.dense() if isinstance(side, Projected) else side).logits_NV


def _rows(pair: ModelPair, batch: Batch) -> Rows:
    rows = pair.rows(batch)
    assert isinstance(rows, Rows)
    return rows


def _labels(task: Task, labels_N: Tensor) -> list[str]:
    return [f"{value:.4g}" if task.is_regression else task.names[value] for value in labels_N.tolist()]


def _decided(task: Task, signal: Signal) -> list[str]:
    given_NC = numbers(signal).double().cpu()
    if task.is_regression:
        return [f"{value:.4g}" for value in given_NC[:, 0].tolist()]
    best = given_NC.softmax(1).max(1)
    return [
        f"{task.names[at]} ({share:.0%})" for share, at in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
