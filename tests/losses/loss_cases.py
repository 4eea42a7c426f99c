"""Rows for the tests of the losses, and the loss written out plainly as their reference.

Shape letters: N rows, V vocabulary or classes, H hidden, G the teacher's hidden.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlab.losses import LOSSES, RowLoss
from kdlab.losses.engine import LossOutput, row_loss
from kdlab.rows import Dense, Projected, Rows, Side

OTHER_OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("symmetric", {"forward_weight": 0.1}),
    ("jensen_shannon", {"teacher_weight": 0.2}),
    ("skew_forward", {"alpha": 0.6}),
    ("skew_reverse", {"alpha": 0.6}),
    ("adaptive_kl", {"head_mass": 0.9}),
    ("alpha_beta", {"alpha": 1.0, "beta": 0.0}),
    ("alpha_beta", {"alpha": 0.0, "beta": 1.0}),
    ("alpha_beta", {"alpha": 0.0, "beta": 0.0}),
    ("alpha_beta", {"alpha": 0.6, "beta": 0.0}),
    ("alpha_beta", {"alpha": 0.0, "beta": 0.6}),
    ("alpha_beta", {"alpha": 0.5, "beta": -0.5}),
    ("alpha_beta", {"alpha": 1.5, "beta": -0.7}),
    ("alpha_beta", {"alpha": -0.4, "beta": 1.2}),
]
DEFAULTS = [(name, {}) for name in LOSSES]


def _ids(cases: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [name + "".join(f"-{key}={value}" for key, value in options.items()) for name, options in cases]


every_loss = pytest.mark.parametrize("name", list(LOSSES))
"""Every loss of the table, with its default options."""
every_option = pytest.mark.parametrize(
    ("name", "options"), DEFAULTS + OTHER_OPTIONS, ids=_ids(DEFAULTS + OTHER_OPTIONS)
)
"""Every loss of the table, with its default options and with others that take another branch."""


def make(name: str, **options: Any) -> RowLoss:
    """A loss of the table; `hard` has one hard weight only."""
    if name == "hard":
        options.pop("hard_weight", None)
    return LOSSES[name](**options)


@dataclass(kw_only=True)
class Case:
    """Both sides of some rows, with leaves that take gradients on the student's."""

    student: Side
    teacher: Side
    labels_N: Tensor

    @property
    def leaves(self) -> list[Tensor]:
        side = self.student
        tensors = [side.logits_NV] if isinstance(side, Dense) else [side.hidden_NH, side.weight_VH, side.bias_V]
        return [tensor for tensor in tensors if tensor is not None and tensor.requires_grad]

    def rows(self) -> Rows:
        return Rows(student=self.student, teacher=self.teacher, labels_N=self.labels_N)

    def run(self, loss: RowLoss, *, count: float | None = None) -> tuple[LossOutput, list[Tensor]]:
        """The engine's output and the gradients of the leaves."""
        out = row_loss(loss, self.rows(), count=count or max(len(self.labels_N), 1))
        return out, list(torch.autograd.grad(out.loss, self.leaves))

    def part(self, rows: slice) -> Case:
        return Case(student=cut(self.student, rows), teacher=cut(self.teacher, rows), labels_N=self.labels_N[rows])


def cut(side: Side, rows: slice) -> Side:
    if isinstance(side, Dense):
        return Dense(logits_NV=side.logits_NV[rows])
    return replace(side, hidden_NH=side.hidden_NH[rows])


def projected_case(
    *,
    rows: int = 11,
    vocabulary: int = 23,
    dtype: torch.dtype = torch.float64,
    bias: bool = True,
    scale: float = 1.0,
    softcap: float | None = None,
    seed: int = 0,
) -> Case:
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)

    student = Projected(
        hidden_NH=normal(rows, 6).requires_grad_(),
        weight_VH=normal(vocabulary, 6).requires_grad_(),
        bias_V=normal(vocabulary).requires_grad_() if bias else None,
        scale=scale,
        softcap=softcap,
    )
    teacher = Projected(hidden_NH=normal(rows, 5), weight_VH=normal(vocabulary, 5), softcap=softcap)
    return Case(student=student, teacher=teacher, labels_N=torch.randint(vocabulary, (rows,), generator=draw))


def dense(side: Side, *, grad: bool) -> Dense:
    logits_NV = side.logits_NV if isinstance(side, Dense) else side.dense().logits_NV
    return Dense(logits_NV=logits_NV.detach().clone().requires_grad_(grad))


def dense_case(**options: Any) -> Case:
    case = projected_case(**options)
    return replace(case, student=dense(case.student, grad=True), teacher=dense(case.teacher, grad=False))


def plain(loss: RowLoss, student: Side, teacher: Side, labels_N: Tensor, *, count: float) -> Tensor:
    """The definition, all rows at once: Σ [(1 - h) T² D(q_T, p_T) + h CE] / count, for autograd to differentiate."""
    student_NV = student.logits_NV if isinstance(student, Dense) else student.dense().logits_NV
    teacher_NV = teacher.logits_NV if isinstance(teacher, Dense) else teacher.dense().logits_NV
    total = torch.nn.functional.cross_entropy(student_NV, labels_N, reduction="sum") * loss.hard_weight
    if loss.hard_weight < 1:
        sides = [logits_NV / loss.temperature for logits_NV in (student_NV, teacher_NV)]
        if loss.space == "log_probability":
            sides = [logits_NV.log_softmax(-1) for logits_NV in sides]
        t2 = loss.temperature**2 if loss.t2_scale else 1.0
        total = total + (1 - loss.hard_weight) * t2 * loss.divergence(*sides).sum()
    return total / count


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance, check_dtype=False)


def all_close(actual: list[Tensor], expected: list[Tensor] | tuple[Tensor, ...], tolerance: float = 1e-9) -> None:
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        close(one, other, tolerance)
