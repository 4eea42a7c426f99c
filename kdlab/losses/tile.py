"""The arithmetic of a few rows: from raw logits to the loss of each row and its gradient, in place.

Between two matrix products the engine walks a chunk in tiles, so small that all of a tile's temporaries stay in a
core's cache: a dozen passes over them then cost less than one pass over a chunk.

Shape letters: r rows of one tile, V vocabulary or classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kdlab.losses.base import RowLoss
from kdlab.losses.sides import Tempering, math_dtype

FLOOR = -1e30
"""Log-probability of an entry that -inf logits mask: far below any real one and, unlike -inf, 0 after times 0."""

Formula = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Plan:
    """What is the same for every tile of a call; z are the student's logits / T.

    The gradient is `soft` * dD/dz + `hard` * (softmax(T z) - one-hot). `teacher` None leaves D out, `with_hard` False
    the cross-entropy. A `masked` side may hold -inf.
    """

    student: Tempering
    teacher: Tempering | None
    temperature: float
    with_hard: bool
    soft: float
    hard: float
    student_masked: bool
    teacher_masked: bool


def has_closed_form(loss: RowLoss) -> bool:
    return type(loss).closed_form is not RowLoss.closed_form


def tile(
    loss: RowLoss,
    plan: Plan,
    formula: Formula,
    student_rV: Tensor,
    teacher_rV: Tensor | None,
    labels_r: Tensor,
    out_rV: Tensor | None,
    weight_r: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """Divergence and cross-entropy of each row `[r]` in a tile of raw logits; None for a term that is not computed.

    `out_rV` receives the gradient with respect to the raw logits and may be the memory of `student_rV`. None: values
    only, from `formula`, which is `loss.divergence` or its compiled self. `weight_r` weighs the cross-entropy and its
    gradient (None: 1).
    """
    z_rV = plan.student(student_rV, math_dtype(student_rV.dtype))
    in_logs = loss.space == "log_probability"
    read_rV = log_softmax(z_rV, masked=plan.student_masked) if in_logs else z_rV
    value_r = gradient_rV = hard_r = surprise_rV = None
    if plan.with_hard:
        at_one = in_logs and plan.temperature == 1
        log_rV = read_rV if at_one else log_softmax(z_rV * plan.temperature, masked=plan.student_masked)
        hard_r = -log_rV.gather(1, labels_r[:, None])[:, 0]
        if out_rV is not None:
            surprise_rV = log_rV.exp()
            surprise_rV.scatter_add_(1, labels_r[:, None], surprise_rV.new_full((len(labels_r), 1), -1))
        if weight_r is not None:
            hard_r = hard_r * weight_r
            surprise_rV = None if surprise_rV is None else surprise_rV.mul_(weight_r[:, None])
    if plan.teacher is not None:
        assert teacher_rV is not None
        taught_rV = plan.teacher(teacher_rV, z_rV.dtype)
        if in_logs:
            taught_rV = log_softmax(taught_rV, masked=plan.teacher_masked)
        if out_rV is None:
            value_r = formula(read_rV, taught_rV)
        else:
            # z is needed no more (a soft-capped one has its own memory), so q may take its place
            in_place = out_rV.dtype == z_rV.dtype and not torch.compiler.is_compiling()
            scratch_rV = out_rV if in_place else None
            masked = plan.student_masked
            value_r, gradient_rV = slope(loss, formula, z_rV, read_rV, taught_rV, masked=masked, scratch_rV=scratch_rV)
        value_r = value_r.clamp(min=0)  # rounding can leave a zero a hair below zero
    if out_rV is not None:
        combine(plan, gradient_rV, surprise_rV, z_rV, out_rV)
    return value_r, hard_r


def slope(
    loss: RowLoss,
    formula: Formula,
    z_rV: Tensor,
    read_rV: Tensor,
    taught_rV: Tensor,
    *,
    masked: bool,
    scratch_rV: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Value `[r]` and gradient with respect to `z_rV` of what the loss reads. Overwrites `read_rV` and `taught_rV`;
    `scratch_rV` may hold the gradient."""
    if not has_closed_form(loss):
        return by_autograd(loss, formula, z_rV, taught_rV, masked=masked)
    q_rV = read_rV.exp() if scratch_rV is None else torch.exp(read_rV, out=scratch_rV)
    closed = loss.closed_form(read_rV, taught_rV, q_rV, taught_rV.exp())
    assert closed is not None
    return closed


def log_softmax(z_rV: Tensor, *, masked: bool) -> Tensor:
    log_rV = z_rV.log_softmax(-1)
    return log_rV.clamp_(min=FLOOR) if masked else log_rV


def by_autograd(
    loss: RowLoss, formula: Formula, z_rV: Tensor, teacher_rV: Tensor, *, masked: bool
) -> tuple[Tensor, Tensor]:
    """Value `[r]` and gradient with respect to `z_rV` of a loss that has no closed form."""
    with torch.enable_grad():
        leaf_rV = z_rV.detach().requires_grad_()
        read_rV = leaf_rV
        if loss.space == "log_probability":
            read_rV = leaf_rV.log_softmax(-1)
            read_rV = read_rV.clamp(min=FLOOR) if masked else read_rV
        value_r = formula(read_rV, teacher_rV)
        (gradient_rV,) = torch.autograd.grad(value_r.sum(), leaf_rV)
    return value_r.detach(), gradient_rV


def combine(plan: Plan, soft_rV: Tensor | None, hard_rV: Tensor | None, z_rV: Tensor, out_rV: Tensor) -> None:
    """Write soft * `soft_rV` + hard * `hard_rV`, taken back through the soft-cap, to `out_rV`."""
    if soft_rV is None:
        assert hard_rV is not None
        total_rV = hard_rV if plan.hard == 1 else hard_rV.mul_(plan.hard)
    else:
        total_rV = soft_rV if plan.soft == 1 else soft_rV.mul_(plan.soft)
        if hard_rV is not None:
            total_rV = total_rV.add_(hard_rV, alpha=plan.hard)
    total_rV = plan.student.back(total_rV, z_rV)
    if total_rV is not out_rV:
        out_rV.copy_(total_rV)
