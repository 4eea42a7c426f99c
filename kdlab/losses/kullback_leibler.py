"""The KL family without mixtures: forward, reverse, symmetric and adaptive. T² is on by default.

p is the teacher, q the student, z the student's logits / T.

Shape letters: N rows, V vocabulary or classes, K most likely tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from kdlab.losses.base import RowLoss, kl

if TYPE_CHECKING:
    from torch import Tensor

FIRST_K = 64
"""Tokens tried first in the search for a row's head; most heads of half the mass are far smaller."""


@dataclass(kw_only=True)
class ForwardKL(RowLoss):
    """KL(p ‖ q) = Σ p (log p - log q): the student must cover every mode (Hinton et al., 2015).

    The teacher's entropy is kept, so the value is a divergence: 0 at p = q. Gradient q - p.
    """

    t2_scale: bool = True

    linear_in_teacher: ClassVar[bool] = True

    def divergence(self, student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
        return kl(teacher_NV, student_NV)

    def closed_form(self, student_NV: Tensor, teacher_NV: Tensor, q_NV: Tensor, p_NV: Tensor) -> tuple[Tensor, Tensor]:
        value_N = teacher_NV.sub_(student_NV).mul_(p_NV).sum(-1)
        return value_N, q_NV.sub_(p_NV)


@dataclass(kw_only=True)
class ReverseKL(RowLoss):
    """KL(q ‖ p) = Σ q (log q - log p): the student may drop modes but not invent them (Gu et al., 2024).

    Gradient q (log q - log p - KL).
    """

    t2_scale: bool = True

    def divergence(self, student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
        return kl(student_NV, teacher_NV)

    def closed_form(self, student_NV: Tensor, teacher_NV: Tensor, q_NV: Tensor, p_NV: Tensor) -> tuple[Tensor, Tensor]:
        gap_NV = student_NV.sub_(teacher_NV)
        value_N = (gap_NV * q_NV).sum(-1)
        return value_N, q_NV.mul_(gap_NV.sub_(value_N[:, None]))


@dataclass(kw_only=True)
class Symmetric(RowLoss):
    """forward_weight * KL(p ‖ q) + (1 - forward_weight) * KL(q ‖ p). At 0.5: half of Jeffreys' divergence."""

    t2_scale: bool = True
    forward_weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.forward_weight <= 1:
            raise ValueError(f"loss.forward_weight={self.forward_weight}: must be between 0 and 1")

    def divergence(self, student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
        forward_N, reverse_N = kl(teacher_NV, student_NV), kl(student_NV, teacher_NV)
        return self.forward_weight * forward_N + (1 - self.forward_weight) * reverse_N

    def closed_form(self, student_NV: Tensor, teacher_NV: Tensor, q_NV: Tensor, p_NV: Tensor) -> tuple[Tensor, Tensor]:
        return both_directions(student_NV, teacher_NV, q_NV, p_NV, self.forward_weight, 1 - self.forward_weight)


@dataclass(kw_only=True)
class AdaptiveKL(RowLoss):
    """(g_h KL(p ‖ q) + g_t KL(q ‖ p)) / (g_h + g_t) (AKL, Wu et al., 2024).

    g_h and g_t are Σ |p - q| over the teacher's head and tail. The head is the most likely token and every next one
    while the cumulated mass stays <= `head_mass`; the tail is the rest. No gradient flows through g. Where both are 0
    (p = q), both weights are 1/2; the authors' code divides 0 by 0 there.
    """

    t2_scale: bool = True
    head_mass: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.head_mass < 1:
            raise ValueError(f"loss.head_mass={self.head_mass}: must be between 0 and 1, both excluded")

    def divergence(self, student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
        forward_N = self._forward_weight(student_NV.detach().exp(), teacher_NV.exp())
        return forward_N * kl(teacher_NV, student_NV) + (1 - forward_N) * kl(student_NV, teacher_NV)

    def closed_form(self, student_NV: Tensor, teacher_NV: Tensor, q_NV: Tensor, p_NV: Tensor) -> tuple[Tensor, Tensor]:
        forward_N = self._forward_weight(q_NV, p_NV)[:, None]
        return both_directions(student_NV, teacher_NV, q_NV, p_NV, forward_N, 1 - forward_N)

    def _forward_weight(self, q_NV: Tensor, p_NV: Tensor) -> Tensor:
        """g_h / (g_h + g_t), `[N]`."""
        gap_NV = (p_NV - q_NV).abs_()
        share_N = self._head_sum(gap_NV, p_NV, FIRST_K) / gap_NV.sum(-1)
        return share_N.clamp_(max=1).nan_to_num_(nan=0.5)

    def _head_sum(self, gap_NV: Tensor, p_NV: Tensor, tried: int) -> Tensor:
        """Σ gap over each row's head, `[N]`. A full sort costs twice the whole loss, so only long heads pay for it."""
        kept = min(tried, p_NV.shape[1])
        top_NK, ids_NK = p_NV.topk(kept)
        head_NK = top_NK.cumsum(-1) <= self.head_mass
        head_NK[:, 0] = True
        sum_N = gap_NV.gather(1, ids_NK).mul_(head_NK).sum(-1)
        long_N = head_NK[:, -1]
        if kept < p_NV.shape[1] and bool(long_N.any()):
            sum_N[long_N] = self._head_sum(gap_NV[long_N], p_NV[long_N], 16 * kept)
        return sum_N


def both_directions(
    student_NV: Tensor,
    teacher_NV: Tensor,
    q_NV: Tensor,
    p_NV: Tensor,
    forward: float | Tensor,
    reverse: float | Tensor,
) -> tuple[Tensor, Tensor]:
    """forward * KL(p ‖ q) + reverse * KL(q ‖ p) and its gradient; weights are numbers or `[N, 1]`. Overwrites all."""
    gap_NV = student_NV.sub_(teacher_NV)
    forward_N1 = (gap_NV * p_NV).sum(-1, keepdim=True).neg_()
    reverse_N1 = (gap_NV * q_NV).sum(-1, keepdim=True)
    value_N1 = forward * forward_N1 + reverse * reverse_N1
    slope_NV = gap_NV.sub_(reverse_N1).mul_(reverse).add_(forward)
    return value_N1[:, 0], q_NV.mul_(slope_NV).sub_(p_NV.mul_(forward))
