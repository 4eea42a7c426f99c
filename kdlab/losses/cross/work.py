"""Work: what the engine has to walk, and what it must know before it does.

A merged span has one divergence for all its rows, which chunks may part. So the log-probabilities that both sides give
the labels of these rows are read first; the walk then knows the slope of the divergence at each row.

Shape letters: N rows of the student, n rows of one chunk, r rows of one tile, P pairs of rows, R rows of the student
(or of a side) in merged spans, S merged spans, V vocabulary, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdlab.losses.cross.partners import Partners
from kdlab.losses.cross.tile import label_log
from kdlab.losses.sides import Reader, math_dtype, spans, tile_rows
from kdlab.rows import Dense, PairRows, Projected, Side

if TYPE_CHECKING:
    from kdlab.losses.cross.base import CrossLoss


def picked(side: Projected, rows_R: Tensor) -> Projected:
    """Some rows of a side, in the order given."""
    return replace(side, hidden_NH=side.hidden_NH.detach()[rows_R])


class Picked(Reader):
    """A Reader of some rows of a side, in the order given. Dense logits are copied a chunk at a time."""

    def __init__(self, side: Side, rows_R: Tensor, temperature: float, longest: int) -> None:
        self.rows_R = rows_R
        super().__init__(side if isinstance(side, Dense) else picked(side, rows_R), temperature, longest)

    def chunk(self, start: int, end: int) -> Tensor:
        return self.logits_NV[self.rows_R[start:end]] if self.dense else super().chunk(start, end)


@dataclass(frozen=True, kw_only=True)
class Work:
    """The rows of the student that are walked, and what each is for.

    `kept_N` are the rows that anything is asked of, None where these are all. `student_P` and `student_R` count within
    them and rise. `merged` is the divergence sum of the merged spans, `slope_R` its slope at the log q(label) of each
    of their rows.
    """

    student: Side
    labels_N: Tensor
    kept_N: Tensor | None
    student_P: Tensor
    teacher_P: Tensor
    student_R: Tensor
    slope_R: Tensor
    merged: Tensor

    @classmethod
    def of(cls, loss: CrossLoss, rows: PairRows, temperature: float, *, gradient: bool) -> Work:
        partners = Partners.of(rows if loss.hard_weight < 1 else apart(rows), merges=loss.merges)
        merged, slope_R = merge(loss, rows, partners, temperature)
        student_P, student_R = partners.student_P, partners.student_R
        if not gradient:
            student_R, slope_R = student_R[:0], slope_R[:0]
        student, labels_N, kept_N = rows.student, rows.labels_N, None
        useful = len(student_P) + len(student_R)
        if loss.hard_weight == 0 and useful < len(rows) and isinstance(student, Projected):
            kept_N = torch.cat([student_P, student_R]).sort().values  # no row is in both
            student, labels_N = picked(student, kept_N), labels_N[kept_N]
            student_P, student_R = (torch.searchsorted(kept_N, index) for index in (student_P, student_R))
        return cls(
            student=student,
            labels_N=labels_N,
            kept_N=kept_N,
            student_P=student_P,
            teacher_P=partners.teacher_P,
            student_R=student_R,
            slope_R=slope_R,
            merged=merged,
        )


def apart(rows: PairRows) -> PairRows:
    """The same rows, none of them in a span."""
    return replace(
        rows,
        student_span_N=torch.full_like(rows.student_span_N, -1),
        teacher_span_M=torch.full_like(rows.teacher_span_M, -1),
        spans=0,
    )


def merge(loss: CrossLoss, rows: PairRows, partners: Partners, temperature: float) -> tuple[Tensor, Tensor]:
    """The divergence sum of the merged spans, and its slope `[R]` at the student's rows."""
    side = rows.student
    dtype = math_dtype(side.logits_NV.dtype if isinstance(side, Dense) else side.hidden_NH.dtype)
    zeros_S = torch.zeros(partners.merged, dtype=dtype, device=rows.labels_N.device)
    if partners.merged == 0:
        return zeros_S.sum(), zeros_S
    student_R = label_logs(side, partners.student_R, rows.labels_N, temperature, loss.chunk_rows)
    teacher_R = label_logs(rows.teacher, partners.teacher_Q, rows.teacher_labels_M, temperature, loss.chunk_rows)
    with torch.enable_grad():
        student_S = zeros_S.index_add(0, partners.student_span_R, student_R).requires_grad_()
        value_S = loss.merged(student_S, zeros_S.index_add(0, partners.teacher_span_Q, teacher_R.to(dtype)))
        (slope_S,) = torch.autograd.grad(value_S.sum(), student_S)
    return value_S.detach().clamp(min=0).sum(), slope_S[partners.student_span_R]


def label_logs(side: Side, rows_R: Tensor, labels_N: Tensor, temperature: float, chunk_rows: int | str) -> Tensor:
    """The log-probability `[R]` that some rows of a side give their labels, at a temperature."""
    chunks = spans(len(rows_R), side.vocabulary, chunk_rows, rows_R.device)
    reader = Picked(side, rows_R, temperature, max(end - start for start, end in chunks))
    dtype, step = math_dtype(reader.dtype), tile_rows(side.vocabulary, rows_R.device)
    labels_R = labels_N[rows_R]
    logs_R = torch.empty(len(rows_R), dtype=dtype, device=rows_R.device)
    for start, end in chunks:
        raw_nV = reader.chunk(start, end)
        for first in range(start, end, step):
            last = min(first + step, end)
            z_rV = reader.tempering(raw_nV[first - start : last - start], dtype)
            logs_R[first:last] = label_log(z_rV, labels_R[first:last])
    return logs_R
