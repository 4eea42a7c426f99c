"""The arithmetic of a few rows of two tokenizers: from raw logits to values and the student's gradient, in place.

Shape letters: r rows of the student in a tile, p of them that are compared with the teacher's, m of them in merged
spans, V student's vocabulary, W teacher's vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kdlab.losses.cross.base import CrossLoss
from kdlab.losses.cross.entries import Entries
from kdlab.losses.sides import math_dtype
from kdlab.losses.tile import FLOOR, Plan, combine, log_softmax

CERTAIN = 80.0
"""Logits by which a label leads when its probability is taken for 1: exp(-80) is the last that float32 holds well."""


@dataclass(frozen=True, kw_only=True)
class Taught:
    """What the teacher has to say in one tile: raw logits for the rows `at_p`, slopes for the rows `at_m`.

    A slope is d(divergence) / d(log q(label)) of a row in a merged span.
    """

    teacher_pW: Tensor | None
    at_p: Tensor
    at_m: Tensor
    slope_m: Tensor


def tile(
    loss: CrossLoss,
    plan: Plan,
    entries: Entries,
    student_rV: Tensor,
    taught: Taught,
    labels_r: Tensor,
    out_rV: Tensor | None,
) -> tuple[Tensor | None, Tensor | None]:
    """Divergence of the compared rows `[p]` and cross-entropy of all `[r]`; None for a term that is not computed.

    `out_rV` receives the gradient with respect to the raw logits and may be the memory of `student_rV`.
    """
    z_rV = plan.student(student_rV, math_dtype(student_rV.dtype))
    value_p = gradient_rV = hard_r = surprise_rV = None
    if plan.with_hard:
        log_rV = log_softmax(z_rV * plan.temperature, masked=plan.student_masked)
        hard_r = -log_rV.gather(1, labels_r[:, None])[:, 0]
        if out_rV is not None:
            surprise_rV = log_rV.exp_()
            surprise_rV.scatter_add_(1, labels_r[:, None], surprise_rV.new_full((len(labels_r), 1), -1))
    if taught.teacher_pW is not None:
        assert plan.teacher is not None
        whole = len(taught.at_p) == len(z_rV)
        z_pV = z_rV if whole else z_rV[taught.at_p]
        teacher_pW = log_softmax(plan.teacher(taught.teacher_pW, z_rV.dtype), masked=plan.teacher_masked)
        value_p, gradient_pV = compare(loss, plan, entries, z_pV, teacher_pW, gradient=out_rV is not None)
        if gradient_pV is not None:
            gradient_rV = gradient_pV if whole else _spread(gradient_pV, taught.at_p, z_rV)
    if out_rV is None:
        return value_p, hard_r
    if len(taught.at_m):
        gradient_mV = label_gradient(z_rV[taught.at_m], labels_r[taught.at_m], taught.slope_m)
        if gradient_rV is None:
            gradient_rV = _spread(gradient_mV, taught.at_m, z_rV)
        else:
            gradient_rV.index_add_(0, taught.at_m, gradient_mV)
    if gradient_rV is None and surprise_rV is None:
        out_rV.zero_()
    else:
        combine(plan, gradient_rV, surprise_rV, z_rV, out_rV)
    return value_p, hard_r


def _spread(gradient_pV: Tensor, at_p: Tensor, like_rV: Tensor) -> Tensor:
    return torch.zeros_like(like_rV).index_copy_(0, at_p, gradient_pV)


def compare(
    loss: CrossLoss, plan: Plan, entries: Entries, z_pV: Tensor, teacher_pW: Tensor, *, gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """The divergence `[p]` and its gradient with respect to `z_pV`."""
    with torch.set_grad_enabled(gradient):
        leaf_pV = z_pV.detach().requires_grad_(gradient)
        student_pV = leaf_pV.log_softmax(-1)
        if plan.student_masked:
            student_pV = student_pV.clamp(min=FLOOR)
        value_p = loss.divergence(student_pV, teacher_pW, entries)
        gradient_pV = torch.autograd.grad(value_p.sum(), leaf_pV)[0] if gradient else None
    return value_p.detach().clamp(min=0), gradient_pV  # rounding can leave a zero a hair below zero


def _gap(z_rV: Tensor, labels_r: Tensor) -> Tensor:
    """log((1 - q) / q) `[r]` of the labels' probabilities q, exact to rounding however close to 0 or 1 they are."""
    others_r = z_rV.scatter(1, labels_r[:, None], -torch.inf).logsumexp(-1)
    return (others_r - z_rV.gather(1, labels_r[:, None])[:, 0]).clamp(-CERTAIN, -FLOOR)


def label_log(z_rV: Tensor, labels_r: Tensor) -> Tensor:
    """log q(label) `[r]`; below 0, by rounding too."""
    gap_r = _gap(z_rV, labels_r)
    return -gap_r.logaddexp(torch.zeros_like(gap_r))


def label_gradient(z_rV: Tensor, labels_r: Tensor, slope_r: Tensor) -> Tensor:
    """slope * d log q(label) / dz = slope * (one-hot - q)."""
    gradient_rV = z_rV.softmax(-1).mul_(-slope_r[:, None])
    return gradient_rV.scatter_(1, labels_r[:, None], (slope_r * _gap(z_rV, labels_r).sigmoid())[:, None])
