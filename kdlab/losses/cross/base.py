"""CrossLoss: what a loss between two tokenizers is, and the options each has. Importable without torch.

Two tokenizers cut a text at different places, but some cuts are common to both; what lies between two of them is a span
(`rows.PairRows`). Before the first row of a span both models have read the same bytes, and no others, so the two
predictions made there answer the same question and may be compared whole. Inside a longer span they do not: one has
read more than the other. There only the probability of the whole span's text compares.

Shape letters: P compared rows, S spans, V student's vocabulary, W teacher's vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from kdlab.losses.base import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from kdlab.losses.cross.entries import Entries


@dataclass(kw_only=True)
class CrossLoss(Loss):
    """`((1 - hard_weight) Σ_spans divergence + hard_weight Σ_rows CE(q, labels)) / the student's rows of the step`.

    p is the teacher, q the student. `temperature` divides both sides' logits in the divergence only, which is not
    multiplied by T². The cross-entropy counts every row of the student; rows outside spans (an end of sequence, a
    template's own tokens) learn from nothing else, so `hard_weight` 0 is rarely what one wants.
    """

    merges: ClassVar[bool] = False
    """Whether spans of more than one token on a side go to `merged`; else all spans go to `divergence`."""
    least_tile_rows: ClassVar[int] = 1
    """How many rows at least `divergence` wants to see at a time."""

    @property
    def pairing(self) -> str:
        return "cross"

    def divergence(self, student_PV: Tensor, teacher_PW: Tensor, entries: Entries) -> Tensor:
        """The divergence `[P]` at the first rows of spans, >= 0, from the log-probabilities at T of both sides."""
        raise TypeError(f"{type(self).__name__} does not define divergence()")

    def merged(self, student_S: Tensor, teacher_S: Tensor) -> Tensor:
        """The divergence `[S]` of longer spans, >= 0, from the log-probabilities of their whole text."""
        raise TypeError(f"{type(self).__name__} does not define merged()")
