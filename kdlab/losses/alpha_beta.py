"""The alpha-beta divergence, a two-parameter family that holds both KLs, Hellinger's and the power divergences.

Shape letters: N rows, V vocabulary or classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from kdlab.losses.base import RowLoss

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 0.01
"""Nearer to a limit than this, the general formula subtracts nearly equal numbers and float32 has no digits left."""


@dataclass(kw_only=True)
class AlphaBeta(RowLoss):
    """D = -1/(αβ) Σ [p^α q^β - α/(α+β) p^(α+β) - β/(α+β) q^(α+β)] (Cichocki et al., 2011; ABKD, Wang et al., 2025).

    Limits are exact: (1, 0) is KL(p ‖ q), (0, 1) is KL(q ‖ p), (0, 0) is ½ Σ (log p - log q)², and α + β = 0 is
    1/α² Σ [(p/q)^α - 1 - α log(p/q)]. Negative exponents are allowed, and grow without bound where p or q has no mass.
    The defaults are ABKD's for instruction following.
    """

    alpha: float = 0.2
    beta: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        for option, value in (
            ("alpha", self.alpha),
            ("beta", self.beta),
            ("alpha + loss.beta", self.alpha + self.beta),
        ):
            if not isfinite(value):
                raise ValueError(f"loss.{option}={value}: must be finite")
            if 1e-9 < abs(value) < SMALLEST:
                raise ValueError(f"loss.{option}={value}: too near 0 to compute; use exactly 0 or at least {SMALLEST}")

    def divergence(self, student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
        a, b, s = self._exponents()
        log_q, log_p = student_NV, teacher_NV
        if a == b == 0:
            terms_NV = (log_p - log_q).square() / 2
        elif s == 0:
            ratio_NV = a * (log_p - log_q)
            terms_NV = (ratio_NV.expm1() - ratio_NV) / a**2
        elif b == 0:
            p_a, q_a = (a * log_p).exp(), (a * log_q).exp()
            terms_NV = (a * p_a * (log_p - log_q) - p_a + q_a) / a**2
        elif a == 0:
            p_b, q_b = (b * log_p).exp(), (b * log_q).exp()
            terms_NV = (b * q_b * (log_q - log_p) - q_b + p_b) / b**2
        else:
            cross_NV, p_s, q_s = (a * log_p + b * log_q).exp(), (s * log_p).exp(), (s * log_q).exp()
            terms_NV = (a / s * p_s + b / s * q_s - cross_NV) / (a * b)
        return terms_NV.sum(-1)

    def closed_form(self, student_NV: Tensor, teacher_NV: Tensor, q_NV: Tensor, p_NV: Tensor) -> tuple[Tensor, Tensor]:
        a, b, s = self._exponents()
        if a == 0:  # dD/d(log q) = q^b (log q - log p)
            value_N = self.divergence(student_NV, teacher_NV)
            slope_NV = (b * student_NV).exp_().mul_(student_NV.sub_(teacher_NV))
        else:  # dD/d(log q) = (q^(a+b) - p^a q^b) / a
            cross_NV, q_s = (a * teacher_NV).add_(student_NV, alpha=b).exp_(), (s * student_NV).exp_()
            slope_NV = (q_s - cross_NV).div_(a)
            if b == 0 or s == 0:
                value_N = self.divergence(student_NV, teacher_NV)
            else:
                p_s = teacher_NV.mul_(s).exp_()
                value_N = p_s.mul_(a / s).add_(q_s, alpha=b / s).sub_(cross_NV).sum(-1).div_(a * b)
        return value_N, slope_NV.sub_(q_NV.mul_(slope_NV.sum(-1, keepdim=True)))

    def _exponents(self) -> tuple[float, float, float]:
        """α, β and α + β, with rounding noise around 0 removed: .1 + .2 - .3 is a limit too."""
        a, b, s = (0.0 if abs(value) <= 1e-9 else value for value in (self.alpha, self.beta, self.alpha + self.beta))
        return a, b, s
