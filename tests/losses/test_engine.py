"""The engine: types, what it computes and what it leaves out, memory, chunks, compilation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from loss_cases import all_close, close, dense_case, every_loss, make, plain, projected_case
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kdlab.losses import RowLoss
from kdlab.losses.engine import row_loss
from kdlab.losses.sides import spans
from kdlab.rows import Dense, Projected, Rows


class Largest(TorchDispatchMode):
    """Counts the elements of the largest storage made inside, and names the operations that made one of `watched`."""

    def __init__(self, watched: int = -1) -> None:
        super().__init__()
        self.elements, self.watched, self.makers = 0, watched, []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and not self.aliases(out, args):
            self.elements = max(self.elements, out.numel())
            if out.numel() == self.watched:
                self.makers.append(str(func))
        return out

    @staticmethod
    def aliases(out: Tensor, args: Any) -> bool:
        """Whether `out` is a view of an argument, or one written in place."""
        inputs = [arg for arg in args if isinstance(arg, Tensor)]
        return any(arg.untyped_storage().data_ptr() == out.untyped_storage().data_ptr() for arg in inputs)


@every_loss
@pytest.mark.parametrize("grad", [True, False])
def test_no_tensor_holds_all_rows_by_vocabulary(name: str, grad: bool) -> None:
    case = projected_case(rows=160, vocabulary=200, bias=False)
    with torch.set_grad_enabled(grad), Largest() as seen:
        out = row_loss(make(name, hard_weight=0.5, temperature=2.0, chunk_rows=16), case.rows(), count=160)
        if grad:
            out.loss.backward()
    assert seen.elements <= 16 * 200 < 160 * 200 / 9


def test_backward_hands_the_gradients_over_without_a_copy() -> None:
    case = projected_case(bias=False)
    out = row_loss(make("forward_kl"), case.rows(), count=11)
    with Largest(watched=23 * 6) as seen:
        out.loss.backward()
    assert seen.makers == []
    assert case.leaves[1].grad is not None


def test_a_scaled_loss_scales_its_gradients() -> None:
    case = projected_case()
    loss = make("reverse_kl", hard_weight=0.2)
    _, expected = case.run(loss)
    out = row_loss(loss, case.rows(), count=11)
    all_close(list(torch.autograd.grad(out.loss * -3.0, case.leaves)), [gradient * -3.0 for gradient in expected])


def test_gradients_are_taken_once() -> None:
    case = projected_case()
    out = row_loss(make("forward_kl"), case.rows(), count=11)
    out.loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="taken once"):
        out.loss.backward()


@pytest.mark.parametrize("trains", ["hidden", "head", "bias", "nothing"])
def test_frozen_parts_get_no_gradient(trains: str) -> None:
    case = projected_case()
    assert isinstance(case.student, Projected)
    _, expected = case.run(make("forward_kl"))
    side = replace(
        case.student,
        hidden_NH=case.student.hidden_NH.detach().requires_grad_(trains == "hidden"),
        weight_VH=case.student.weight_VH.detach().requires_grad_(trains == "head"),
        bias_V=case.leaves[2].detach().requires_grad_(trains == "bias"),
    )
    with Largest(watched=23 * 6) as seen:
        out = row_loss(make("forward_kl"), replace(case, student=side).rows(), count=11)
    assert out.loss.requires_grad == (trains != "nothing")
    assert bool(seen.makers) == (trains == "head")  # who else would make a tensor of the head's shape
    if trains != "nothing":
        out.loss.backward()
        tensors = (side.hidden_NH, side.weight_VH, side.bias_V)
        for name, tensor, gradient in zip(("hidden", "head", "bias"), tensors, expected, strict=True):
            assert tensor is not None
            if name == trains:
                assert tensor.grad is not None
                close(tensor.grad, gradient)
            else:
                assert tensor.grad is None


def test_teacher_gets_no_gradient_and_nobody_is_changed() -> None:
    for case in (projected_case(), dense_case()):
        side = case.teacher
        leaf = side.logits_NV if isinstance(side, Dense) else side.hidden_NH
        leaf.requires_grad_()
        before = [tensor.detach().clone() for tensor in (leaf, *case.leaves)]
        out = row_loss(make("jensen_shannon", hard_weight=0.3, chunk_rows=3), case.rows(), count=11)
        out.loss.backward()
        assert leaf.grad is None
        for tensor, old in zip((leaf, *case.leaves), before, strict=True):
            assert torch.equal(tensor, old)


def test_labels_alone_need_no_teacher() -> None:
    case = projected_case()
    rows = Rows(student=case.student, teacher=None, labels_N=case.labels_N)
    hard = row_loss(make("hard"), rows, count=11)
    all_hard = row_loss(make("forward_kl", hard_weight=1.0, temperature=3.0), rows, count=11)
    close(hard.loss, all_hard.loss)
    with pytest.raises(ValueError, match="loss=hard"):
        row_loss(make("forward_kl", hard_weight=0.9), rows, count=11)


def test_more_than_one_loss_in_a_graph() -> None:
    case = projected_case()
    one, other = make("forward_kl", temperature=2.0), make("total_variation")
    total = row_loss(one, case.rows(), count=11).loss + 2 * row_loss(other, case.rows(), count=11).loss
    expected = plain(one, case.student, case.teacher, case.labels_N, count=11)
    expected = expected + 2 * plain(other, case.student, case.teacher, case.labels_N, count=11)
    all_close(list(torch.autograd.grad(total, case.leaves)), torch.autograd.grad(expected, case.leaves))


@pytest.mark.parametrize(
    ("rows", "vocabulary", "requested", "lengths"),
    [
        (1536, 49152, "auto", [256] * 6),
        (384, 49152, "auto", [192, 192]),
        (257, 49152, "auto", [128, 129]),
        (7, 49152, "auto", [7]),
        (10, 5, 4, [3, 3, 4]),
        (10, 5, 100, [10]),
        (5000, 3, "auto", [5000]),
        (0, 3, "auto", []),
    ],
)
def test_chunks_are_balanced(rows: int, vocabulary: int, requested: int | str, lengths: list[int]) -> None:
    chunks = spans(rows, vocabulary, requested, torch.device("cpu"))
    assert [end - start for start, end in chunks] == lengths
    assert [start for start, _ in chunks] == [sum(lengths[:i]) for i in range(len(lengths))]


@dataclass(kw_only=True)
class Squares(RowLoss):
    """½ Σ (q - p)², as a user would write it: a formula and nothing else."""

    def divergence(self, student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
        return (student_NV.exp() - teacher_NV.exp()).square().sum(-1) / 2


@pytest.mark.parametrize("make_case", [projected_case, dense_case])
def test_a_loss_needs_no_more_than_its_formula(make_case: Any) -> None:
    loss = Squares(temperature=2.0, hard_weight=0.3, chunk_rows=4)
    case = make_case()
    out, gradients = case.run(loss)
    expected = plain(loss, case.student, case.teacher, case.labels_N, count=11)
    close(out.loss, expected)
    all_close(gradients, torch.autograd.grad(expected, case.leaves))
