"""The arithmetic of a few rows whose teacher tells of some tokens only: `TopK` with an exact bucket, `Sampled` draws.

`TopK`: the divergence is over J = K + 1 outcomes, the kept entries and "any other". Both sides are known there exactly:
the teacher's bucket holds `rest`, the student's the sum of its other probabilities (never 1 - Σ, which has no digits
left when it is small). Merging outcomes cannot raise a divergence of the KL family, so this is >= 0, 0 at p = q and at
most the divergence over all entries; nothing is renormalised. With c the student's K logits and the logsumexp of the
others, and g = dD/dc, the gradient is g_k at a kept entry and g_J softmax(others)_v at another one. So any loss runs as
it is on `[r, K + 1]`, and the vocabulary is passed over for one exponential.

`Sampled`: for losses whose gradient q - p is linear in p, the weights w stand in for p: the gradient q - w is unbiased.

Shape letters: N rows, r rows of one tile, V vocabulary or classes, K kept entries, J = K + 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from kdlab.losses.base import RowLoss
from kdlab.losses.sides import math_dtype
from kdlab.losses.sparse_rules import check_signal
from kdlab.losses.tile import FLOOR, Plan, log_softmax, slope
from kdlab.rows import Dense, Rows, Sampled, TopK


def as_read(loss: RowLoss, rows: Rows) -> Rows:
    """The rows as `loss` reads them: a `TopK` that keeps every entry is a `Dense`, exact at any temperature.

    Raises ValueError where the loss cannot read the teacher's signal exactly, or without bias.
    """
    signal = rows.teacher
    if isinstance(signal, Sampled):
        check_signal(loss, codec="sampled", temperature=signal.temperature)
    elif isinstance(signal, TopK):
        whole = signal.ids_NK.shape[1] == signal.vocabulary
        check_signal(loss, codec="topk", temperature=signal.temperature, whole=whole)
        return replace(rows, teacher=spread(signal)) if whole else rows
    return rows


def spread(signal: TopK) -> Dense:
    """All entries of a `TopK` that keeps them all, as logits up to a constant: log-probabilities times their T."""
    assert signal.ids_NK.shape[1] == signal.vocabulary
    logp_NK = signal.logp_NK.to(math_dtype(signal.logp_NK.dtype)) * signal.temperature
    return Dense(logits_NV=torch.empty_like(logp_NK).scatter_(1, signal.ids_NK.long(), logp_NK))


SPARSE_TILE = 16
"""How many times larger than a dense tile a sparse one is on CPUs: it makes few passes over the vocabulary and many
small steps beside them, whose fixed cost more rows share."""


def read_sparse(signal: TopK | Sampled, dtype: torch.dtype) -> Kept:
    """The signal as the tiles read it, for a student of this type."""
    return Top.of(signal, math_dtype(dtype)) if isinstance(signal, TopK) else Drawn.of(signal, math_dtype(dtype))


def sparse_tile(
    loss: RowLoss,
    plan: Plan,
    student_rV: Tensor,
    teacher: Kept,
    labels_r: Tensor,
    out_rV: Tensor | None,
    weight_r: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """As `tile.tile`, for a teacher that tells of some tokens. At T = 1 the cross-entropy shares its exponentials."""
    z_rV = plan.student(student_rV, math_dtype(student_rV.dtype))
    label_r1 = z_rV.gather(1, labels_r[:, None])
    hard = plan.hard if weight_r is None else weight_r[:, None] * plan.hard
    weights = Weights(soft=plan.soft, hard=hard if plan.temperature == 1 else 0.0, gradient=out_rV is not None)
    hard_r = surprise_rV = None
    if plan.with_hard and plan.temperature != 1:
        surprise_rV = z_rV * plan.temperature
        sum_r1, whole_r1 = exponentiate(surprise_rV, surprise_rV)
        hard_r = (whole_r1 - label_r1 * plan.temperature)[:, 0]
        surprise_rV.mul_(hard / sum_r1)
    # z is needed no more (a soft-capped one has its own memory), so its exponentials may take its place
    in_place = out_rV is not None and out_rV.dtype == z_rV.dtype
    scratch_rV = out_rV if in_place and out_rV is not None else torch.empty_like(z_rV)
    value_r, whole_r1 = teacher.compare(loss, weights, z_rV, scratch_rV)
    if plan.with_hard and hard_r is None:
        hard_r = (whole_r1 - label_r1)[:, 0]
    if out_rV is not None:
        gradient_rV = scratch_rV if surprise_rV is None else scratch_rV.add_(surprise_rV)
        if plan.with_hard:
            gradient_rV.scatter_add_(1, labels_r[:, None], torch.zeros_like(label_r1) - hard)
        gradient_rV = plan.student.back(gradient_rV, z_rV)
        if not in_place:
            out_rV.copy_(gradient_rV)
    hard_r = None if hard_r is None else hard_r.clamp_(max=-FLOOR)
    return value_r, hard_r if hard_r is None or weight_r is None else hard_r * weight_r


@dataclass(frozen=True)
class Weights:
    """The gradient that a tile wants: `soft` * dD/dz + `hard` * softmax(z), `hard` one a row `[r, 1]` where rows have
    weights; None of it without `gradient`."""

    soft: float
    hard: float | Tensor
    gradient: bool


@dataclass(frozen=True)
class Kept(ABC):
    """Rows of a sparse teacher, which slices cut as they cut a tensor."""

    ids_NK: Tensor

    def chunk(self, start: int, end: int) -> Self:
        return self[start:end]

    @abstractmethod
    def __getitem__(self, rows: slice) -> Self: ...

    @abstractmethod
    def compare(self, loss: RowLoss, weights: Weights, z_rV: Tensor, scratch_rV: Tensor) -> tuple[Tensor, Tensor]:
        """Value `[r]`, and the logsumexp `[r, 1]` of the student's logits / T `z_rV`. The gradient that `weights` want
        is written to `scratch_rV`, which may be the memory of `z_rV` and is overwritten in any case."""


@dataclass(frozen=True)
class Top(Kept):
    """`TopK` rows: `logp_NJ` has the kept log-probabilities and, last, that of the bucket."""

    logp_NJ: Tensor

    @classmethod
    def of(cls, signal: TopK, dtype: torch.dtype) -> Top:
        logp_NJ = torch.cat([signal.logp_NK, signal.rest_N[:, None]], 1).to(dtype)
        # They sum to 1 but for what a codec rounds. Taking that out keeps D >= 0; it never hides the tail.
        return cls(ids_NK=signal.ids_NK.long(), logp_NJ=log_softmax(logp_NJ, masked=True))

    def __getitem__(self, rows: slice) -> Top:
        return Top(self.ids_NK[rows], self.logp_NJ[rows])

    def compare(self, loss: RowLoss, weights: Weights, z_rV: Tensor, scratch_rV: Tensor) -> tuple[Tensor, Tensor]:
        kept_rK = z_rV.gather(1, self.ids_NK)
        others_rV = torch.scatter(z_rV, 1, self.ids_NK, -torch.inf, out=scratch_rV)
        sum_r1, rest_r1 = exponentiate(others_rV, others_rV)
        c_rJ = torch.cat([kept_rK, rest_r1], 1)
        whole_r1 = c_rJ.logsumexp(1, keepdim=True)
        logq_rJ, logp_rJ = (c_rJ - whole_r1).clamp_(min=FLOOR), self.logp_NJ.clone()
        if not weights.gradient:
            return loss.divergence(logq_rJ, logp_rJ).clamp(min=0), whole_r1
        hard_rJ = logq_rJ.exp().mul_(weights.hard)
        value_r, slope_rJ = slope(loss, loss.divergence, c_rJ, logq_rJ, logp_rJ, masked=True)
        slope_rJ = hard_rJ.add_(slope_rJ, alpha=weights.soft)
        others_rV.mul_(slope_rJ[:, -1:] / sum_r1.clamp(min=1))  # where there are others the sum is >= 1, else 0
        others_rV.scatter_(1, self.ids_NK, slope_rJ[:, :-1])
        return value_r.clamp(min=0), whole_r1


@dataclass(frozen=True)
class Drawn(Kept):
    """`Sampled` rows: a row's value is Σ w (-log q) + `teacher_N`, which is -H(p) or, where that is not known,
    Σ w log w: then the value is KL(w ‖ q)."""

    weight_NK: Tensor
    teacher_N: Tensor
    unbiased: bool

    @classmethod
    def of(cls, signal: Sampled, dtype: torch.dtype) -> Drawn:
        weight_NK = signal.weight_NK.to(dtype)
        entropy_N = signal.entropy_N
        teacher_N = torch.xlogy(weight_NK, weight_NK).sum(1) if entropy_N is None else -entropy_N.to(dtype)
        return cls(signal.ids_NK.long(), weight_NK, teacher_N, entropy_N is not None)

    def __getitem__(self, rows: slice) -> Drawn:
        return Drawn(self.ids_NK[rows], self.weight_NK[rows], self.teacher_N[rows], self.unbiased)

    def compare(self, loss: RowLoss, weights: Weights, z_rV: Tensor, scratch_rV: Tensor) -> tuple[Tensor, Tensor]:
        assert loss.linear_in_teacher
        kept_rK = z_rV.gather(1, self.ids_NK)
        sum_r1, whole_r1 = exponentiate(z_rV, scratch_rV)
        logq_rK = kept_rK.sub_(whole_r1).clamp_(min=FLOOR)
        value_r = self.teacher_N - (self.weight_NK * logq_rK).sum(1)
        if weights.gradient:
            scratch_rV.mul_((weights.soft + weights.hard) / sum_r1)
            scratch_rV.scatter_add_(1, self.ids_NK, self.weight_NK * -weights.soft)
        return value_r if self.unbiased else value_r.clamp(min=0), whole_r1


def exponentiate(z_rV: Tensor, out_rV: Tensor) -> tuple[Tensor, Tensor]:
    """Write exp(z - max z) to `out_rV`, which may be `z_rV`. Returns its sum, and the logsumexp of z, both `[r, 1]`."""
    peak_r1 = z_rV.amax(1, keepdim=True).clamp_(min=FLOOR)  # of a row that is all -inf, too, the exponentials are 0
    sum_r1 = torch.sub(z_rV, peak_r1, out=out_rV).exp_().sum(1, keepdim=True)
    return sum_r1, peak_r1 + sum_r1.log()
