"""Total variation and the squared difference of logits.

Shape letters: N rows, V vocabulary or classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from kdlab.losses.base import RowLoss, through_softmax

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class TotalVariation(RowLoss):
    """½ Σ |p - q|, between 0 and 1 (Wen et al., 2023). The gradient is that of |x| with 0 at x = 0."""

    def divergence(self, student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
        return (teacher_NV.exp() - student_NV.exp()).abs().sum(-1) / 2

    def closed_form(self, student_NV: Tensor, teacher_NV: Tensor, q_NV: Tensor, p_NV: Tensor) -> tuple[Tensor, Tensor]:
        gap_NV = p_NV.sub_(q_NV)
        slope_NV = gap_NV.sign().mul_(-0.5)
        return gap_NV.abs_().sum(-1).div_(2), through_softmax(slope_NV, q_NV)


@dataclass(kw_only=True)
class LogitMSE(RowLoss):
    """Mean over the vocabulary of (z_student - z_teacher)², z the logits / T (Ba and Caruana, 2014).

    The mean is over the entries that are finite on both sides; one that either side masks with -inf counts nowhere.
    Logits are compared as they are: adding a constant to a row changes this loss, though not the distribution.
    """

    space: ClassVar[str] = "logit"

    def divergence(self, student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
        both_NV = student_NV.isfinite() & teacher_NV.isfinite()
        gap_NV = student_NV.masked_fill(~both_NV, 0) - teacher_NV.masked_fill(~both_NV, 0)
        return gap_NV.square().sum(-1) / both_NV.sum(-1).clamp(min=1)
