"""Divergences to a mixture of the teacher p and the student q: Jensen-Shannon and the skewed KLs.

Shape letters: N rows, V vocabulary or classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdlab.losses.base import TINY, RowLoss, kl, mixture, through_softmax

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class JensenShannon(RowLoss):
    """w KL(p ‖ m) + (1 - w) KL(q ‖ m) with m = w p + (1 - w) q and w = `teacher_weight` (Agarwal et al., 2024).

    w is GKD's and TRL's beta for 0 < beta < 1. Bounded by the entropy of (w, 1 - w), log 2 at most. It goes to 0, not
    to a KL, as w goes to 0 or 1: those limits are `forward_kl` and `reverse_kl` after division by w (1 - w).
    """

    teacher_weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.teacher_weight < 1:
            raise ValueError(
                f"loss.teacher_weight={self.teacher_weight}: must be between 0 and 1, both excluded; "
                "use loss=forward_kl or loss=reverse_kl for the limits"
            )

    def divergence(self, student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
        w = self.teacher_weight
        middle_NV = mixture(teacher_NV, student_NV, w)
        return w * kl(teacher_NV, middle_NV) + (1 - w) * kl(student_NV, middle_NV)

    def closed_form(self, student_NV: Tensor, teacher_NV: Tensor, q_NV: Tensor, p_NV: Tensor) -> tuple[Tensor, Tensor]:
        w = self.teacher_weight
        middle_NV = (p_NV * w).add_(q_NV, alpha=1 - w).clamp_(min=TINY).log_()
        teacher_N = teacher_NV.sub_(middle_NV).mul_(p_NV).sum(-1)
        slope_NV = student_NV.sub_(middle_NV)  # dD/dq = (1 - w)(log q - log m)
        student_N = (slope_NV * q_NV).sum(-1)
        gradient_NV = q_NV.mul_(slope_NV.sub_(student_N[:, None]).mul_(1 - w))
        return w * teacher_N + (1 - w) * student_N, gradient_NV


@dataclass(kw_only=True)
class Skew(RowLoss):
    """What the skewed KLs share: `alpha` weights the KL's first argument, so 0 would be the plain KL and 1 nothing."""

    t2_scale: bool = True
    alpha: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.alpha < 1:
            raise ValueError(
                f"loss.alpha={self.alpha}: must be between 0 and 1, both excluded; "
                "use loss=forward_kl or loss=reverse_kl for 0"
            )


@dataclass(kw_only=True)
class SkewForward(Skew):
    """KL(p ‖ alpha p + (1 - alpha) q) (DistiLLM, Ko et al., 2024). Bounded by -log alpha.

    The value shrinks by about (1 - alpha)², so losses with different alphas do not compare.
    """

    def divergence(self, student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
        return kl(teacher_NV, mixture(teacher_NV, student_NV, self.alpha))

    def closed_form(self, student_NV: Tensor, teacher_NV: Tensor, q_NV: Tensor, p_NV: Tensor) -> tuple[Tensor, Tensor]:
        middle_NV = (p_NV * self.alpha).add_(q_NV, alpha=1 - self.alpha).clamp_(min=TINY)
        slope_NV = (p_NV / middle_NV).mul_(self.alpha - 1)  # dD/dq
        value_N = teacher_NV.sub_(middle_NV.log_()).mul_(p_NV).sum(-1)
        return value_N, through_softmax(slope_NV, q_NV)


@dataclass(kw_only=True)
class SkewReverse(Skew):
    """KL(q ‖ alpha q + (1 - alpha) p) (DistiLLM, Ko et al., 2024). Bounded by -log alpha.

    The gradient flows through the mixture too, as in the authors' code.
    """

    def divergence(self, student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
        return kl(student_NV, mixture(student_NV, teacher_NV, self.alpha))

    def closed_form(self, student_NV: Tensor, teacher_NV: Tensor, q_NV: Tensor, p_NV: Tensor) -> tuple[Tensor, Tensor]:
        middle_NV = (q_NV * self.alpha).add_(p_NV, alpha=1 - self.alpha).clamp_(min=TINY)
        ratio_NV = q_NV / middle_NV
        gap_NV = student_NV.sub_(middle_NV.log_())
        value_N = (gap_NV * q_NV).sum(-1)
        slope_NV = gap_NV.sub_(ratio_NV, alpha=self.alpha)  # dD/dq = log q - log m - alpha q / m + 1
        return value_N, through_softmax(slope_NV, q_NV)
