"""Partners: which rows of either side are compared with each other.

Shape letters: N rows of the student, M of the teacher, S spans, P pairs of rows, R rows of the student and Q of the
teacher in merged spans.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kdlab.rows import PairRows


@dataclass(frozen=True, kw_only=True)
class Partners:
    """`student_P[i]` and `teacher_P[i]` are rows that predict the same span from the same bytes, rising.

    The rows of merged spans are `student_R` and `teacher_Q`, rising; `student_span_R` and `teacher_span_Q` number these
    spans from 0 to `merged` - 1.
    """

    student_P: Tensor
    teacher_P: Tensor
    student_R: Tensor
    student_span_R: Tensor
    teacher_Q: Tensor
    teacher_span_Q: Tensor
    merged: int

    @classmethod
    def of(cls, rows: PairRows, *, merges: bool) -> Partners:
        """The first rows of all spans; with `merges` of those that are one token on both sides, the others merged."""
        student_S, student_tokens_S = _starts(rows.student_span_N, rows.spans)
        teacher_S, teacher_tokens_S = _starts(rows.teacher_span_M, rows.spans)
        long_S = (student_tokens_S > 1) | (teacher_tokens_S > 1)
        if not merges:
            long_S = torch.zeros_like(long_S)
        number_S = (long_S.cumsum(0) - 1).where(long_S, -1)
        student_R, student_span_R = _members(rows.student_span_N, number_S)
        teacher_Q, teacher_span_Q = _members(rows.teacher_span_M, number_S)
        return cls(
            student_P=student_S[~long_S],
            teacher_P=teacher_S[~long_S],
            student_R=student_R,
            student_span_R=student_span_R,
            teacher_Q=teacher_Q,
            teacher_span_Q=teacher_span_Q,
            merged=int(long_S.sum()),
        )


def _starts(span_N: Tensor, spans: int) -> tuple[Tensor, Tensor]:
    """The first row of every span `[S]`, and how many rows it has `[S]`."""
    inside_R = (span_N >= 0).nonzero()[:, 0]
    span_R = span_N[inside_R]
    first_S = span_N.new_full((spans,), len(span_N)).scatter_reduce_(0, span_R, inside_R, "amin")
    rows_S = span_N.new_zeros(spans).index_add_(0, span_R, torch.ones_like(span_R))
    return first_S, rows_S


def _members(span_N: Tensor, number_S: Tensor) -> tuple[Tensor, Tensor]:
    """The rows in numbered spans, and the number of each."""
    number_N = torch.cat([number_S, number_S.new_full((1,), -1)])[span_N]  # a row in no span, -1, reads the last entry
    members_R = (number_N >= 0).nonzero()[:, 0]
    return members_R, number_N[members_R]
