"""How well a student and a teacher with tokenizers of their own predict the same held-out text.

Per-token numbers of two tokenizers do not compare, for their tokens are of different lengths; bits per byte do.

    sums = sum((measure_pair(rows, ...) for rows in ...), PairSums())
    sums.result()["bits_per_byte"]

Shape letters: N rows of the student, M rows of the teacher.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdlab.losses.cross.engine import cross_loss
from kdlab.metrics.heldout import RowSums, measure
from kdlab.rows import Dense, PairRows, Rows, Side

if TYPE_CHECKING:
    from kdlab.losses.cross.base import CrossLoss
    from kdlab.text.vocabulary import Matched


@dataclass(frozen=True, kw_only=True)
class PairSums:
    """Sums that add up over batches. `student` and `teacher` are over all rows of each; `spelt` and `teacher_spelt`
    over those whose label spells bytes of the text (no end token, no template), `bytes` and `teacher_bytes` many.
    `aligned` counts the student's rows that lie in a span, `divergence` is the loss's own, raw."""

    student: RowSums = field(default_factory=RowSums)
    teacher: RowSums = field(default_factory=RowSums)
    spelt: RowSums = field(default_factory=RowSums)
    teacher_spelt: RowSums = field(default_factory=RowSums)
    bytes: int = 0
    teacher_bytes: int = 0
    aligned: int = 0
    divergence: float = 0.0

    def __add__(self, other: PairSums) -> PairSums:
        return PairSums(**{part.name: getattr(self, part.name) + getattr(other, part.name) for part in fields(self)})

    def result(self) -> dict[str, float]:
        """`rows`, `nll` and `perplexity` of the student over all its rows; `teacher_nll` and `teacher_perplexity` over
        the teacher's own tokens; `bits_per_byte` and `teacher_bits_per_byte`, -log2 of the probability of the text over
        its bytes (nan where no label spells any); `divergence` of the loss per row of the student; `aligned`, the
        share of the student's rows that lie in a span.

        Raises ValueError where either side has no row.
        """
        teacher = self.teacher.result()
        return {
            **self.student.result(),
            "bits_per_byte": _bits(self.spelt.nll, self.bytes),
            "teacher_nll": teacher["nll"],
            "teacher_perplexity": teacher["perplexity"],
            "teacher_bits_per_byte": _bits(self.teacher_spelt.nll, self.teacher_bytes),
            "divergence": self.divergence / self.student.rows,
            "aligned": self.aligned / self.student.rows,
        }


@torch.no_grad()
def measure_pair(
    rows: PairRows,
    *,
    bytes_N: Tensor,
    bytes_M: Tensor,
    loss: CrossLoss,
    matched: Matched,
    chunk_rows: int = 256,
) -> PairSums:
    """The sums of these rows. `bytes_N`, `bytes_M` say how many bytes of the text each row's label spells, below 0
    where it spells none of it. The divergence is that of `loss`, before its weight."""
    spelt, rest = _by_text(rows.student, rows.labels_N, bytes_N, chunk_rows)
    teacher_spelt, teacher_rest = _by_text(rows.teacher, rows.teacher_labels_M, bytes_M, chunk_rows)
    divergence = 0.0
    if len(rows):
        whole = replace(loss, hard_weight=0.0, hard_weight_anneal=None)
        divergence = float(cross_loss(whole, rows, matched=matched, count=1.0).divergence)
    return PairSums(
        student=spelt + rest,
        teacher=teacher_spelt + teacher_rest,
        spelt=spelt,
        teacher_spelt=teacher_spelt,
        bytes=int(bytes_N.clamp_min(0).sum()),
        teacher_bytes=int(bytes_M.clamp_min(0).sum()),
        aligned=int((rows.student_span_N >= 0).sum()),
        divergence=divergence,
    )


def _by_text(side: Side, labels_N: Tensor, bytes_N: Tensor, chunk_rows: int) -> tuple[RowSums, RowSums]:
    """The sums of the rows that spell text, and of the rest."""
    inside, outside = (
        measure(Rows(student=_some(side, which), teacher=None, labels_N=labels_N[which]), chunk_rows=chunk_rows)
        for which in (bytes_N >= 0, bytes_N < 0)
    )
    return inside, outside


def _some(side: Side, which_N: Tensor) -> Side:
    if isinstance(side, Dense):
        return Dense(logits_NV=side.logits_NV[which_N])
    return replace(side, hidden_NH=side.hidden_NH[which_N])


def _bits(nll: float, bytes_: int) -> float:
    return nll / math.log(2) / bytes_ if bytes_ else math.nan
