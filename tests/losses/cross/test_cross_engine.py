"""The engine of the cross losses: memory, frozen parts, which rows are read, and what it leaves untouched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from cross_cases import Case, all_close, case, close, every_loss, make, plain
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kdlab.losses.cross.engine import cross_loss
from kdlab.losses.cross.partners import Partners
from kdlab.rows import Dense, Projected
from kdlab.text.vocabulary import Matched


class Largest(TorchDispatchMode):
    """Counts the elements of the largest tensor made inside, and the rows that matrix products with a head read."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0
        self.read: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            self.read[out.shape[1]] = self.read.get(out.shape[1], 0) + out.shape[0]
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor) and not any(self.same(tensor, arg) for arg in args):
                self.elements = max(self.elements, tensor.numel())
        return out

    @staticmethod
    def same(out: Tensor, arg: Any) -> bool:
        """Whether `out` is a view of an argument, or one written in place."""
        return isinstance(arg, Tensor) and arg.untyped_storage().data_ptr() == out.untyped_storage().data_ptr()


def large_case() -> Case:
    """160 rows of the student and 150 of the teacher: spans of one, two and three tokens, and rows in none."""
    ours = [span if span % 7 else -1 for span in range(80) for _ in range(2)]
    theirs = [span if span % 7 else -1 for span in range(80) for _ in range(1 + span % 3)]
    numbers = {span: i for i, span in enumerate(sorted({*ours} - {-1}))} | {-1: -1}
    strings = [str(i).encode() for i in range(200)]
    return case(
        [numbers[span] for span in ours],
        [numbers[span] for span in theirs],
        student_strings=strings,
        teacher_strings=strings[20:],
        bias=False,
    )


@every_loss
@pytest.mark.parametrize("hard_weight", [0.0, 0.5])
@pytest.mark.parametrize("grad", [True, False])
def test_no_tensor_holds_all_rows_by_vocabulary(name: str, hard_weight: float, grad: bool) -> None:
    one = large_case()
    options = {"k": 5} if name == "optimal_transport" else {}
    loss = make(name, hard_weight=hard_weight, temperature=2.0, chunk_rows=16, **options)
    rows, matched = one.rows(), one.matched
    with torch.set_grad_enabled(grad), Largest() as seen:
        out = cross_loss(loss, rows, matched=matched, count=160)
        if grad:
            out.loss.backward()
    assert seen.elements <= 16 * 200 < 160 * 180 / 8


@every_loss
def test_only_rows_with_a_purpose_are_read(name: str) -> None:
    """Where labels have no weight, the head meets the rows that the teacher teaches, and the teacher's its partners."""
    one = case(bias=False)
    reads = {}
    for hard_weight in (0.0, 0.5, 1.0):
        with torch.no_grad(), Largest() as seen:
            one.output(make(name, hard_weight=hard_weight))
        reads[hard_weight] = (seen.read.get(13, 0), seen.read.get(15, 0))
    if make(name).merges:  # 3 spans of one token on both sides; 7 and 8 rows in longer ones, for their labels
        assert reads == {0.0: (3 + 7, 3 + 8), 0.5: (12 + 7, 3 + 8), 1.0: (12, 0)}
    else:
        assert reads == {0.0: (7, 7), 0.5: (12, 7), 1.0: (12, 0)}


def test_partners() -> None:
    rows = case().rows()
    first = Partners.of(rows, merges=False)
    assert first.student_P.tolist() == [1, 2, 4, 5, 8, 10, 11]
    assert first.teacher_P.tolist() == [0, 2, 3, 4, 6, 8, 11]
    assert first.merged == len(first.student_R) == len(first.teacher_Q) == 0
    merged = Partners.of(rows, merges=True)
    assert merged.student_P.tolist() == [4, 8, 11]
    assert merged.teacher_P.tolist() == [3, 6, 11]
    assert merged.merged == 4
    assert merged.student_R.tolist() == [1, 2, 3, 5, 6, 7, 10]
    assert merged.student_span_R.tolist() == [0, 1, 1, 2, 2, 2, 3]
    assert merged.teacher_Q.tolist() == [0, 1, 2, 4, 5, 8, 9, 10]
    assert merged.teacher_span_Q.tolist() == [0, 0, 1, 2, 2, 3, 3, 3]


@every_loss
@pytest.mark.parametrize("trains", ["hidden", "head", "bias", "nothing"])
@pytest.mark.parametrize("hard_weight", [0.0, 0.4])
def test_frozen_parts_get_no_gradient(name: str, trains: str, hard_weight: float) -> None:
    one = case()
    assert isinstance(one.student, Projected)
    loss = make(name, hard_weight=hard_weight, chunk_rows=4)
    _, expected = one.run(loss)
    side = replace(
        one.student,
        hidden_NH=one.student.hidden_NH.detach().requires_grad_(trains == "hidden"),
        weight_VH=one.student.weight_VH.detach().requires_grad_(trains == "head"),
        bias_V=one.leaves[2].detach().requires_grad_(trains == "bias"),
    )
    out = replace(one, student=side).output(loss)
    assert out.loss.requires_grad == (trains != "nothing")
    if trains != "nothing":
        out.loss.backward()
    tensors = (side.hidden_NH, side.weight_VH, side.bias_V)
    for part, tensor, gradient in zip(("hidden", "head", "bias"), tensors, expected, strict=True):
        assert tensor is not None
        if part == trains:
            assert tensor.grad is not None
            close(tensor.grad, gradient)
        else:
            assert tensor.grad is None


@every_loss
def test_teacher_gets_no_gradient_and_nobody_is_changed(name: str) -> None:
    for one in (case(), case().dense()):
        side = one.teacher
        leaf = side.logits_NV if isinstance(side, Dense) else side.hidden_NH
        leaf.requires_grad_()
        before = [tensor.detach().clone() for tensor in (leaf, *one.leaves)]
        out = one.output(make(name, hard_weight=0.3, chunk_rows=3))
        out.loss.backward()
        assert leaf.grad is None
        for tensor, old in zip((leaf, *one.leaves), before, strict=True):
            assert torch.equal(tensor, old)


@every_loss
def test_scaled_losses_and_one_backward(name: str) -> None:
    one = case()
    loss = make(name, hard_weight=0.2)
    _, expected = one.run(loss)
    out = one.output(loss)
    all_close(list(torch.autograd.grad(out.loss * -3.0, one.leaves, retain_graph=True)), [g * -3.0 for g in expected])
    with pytest.raises(RuntimeError, match="taken once"):
        out.loss.backward()


@every_loss
def test_autocast_changes_nothing(name: str) -> None:
    one = case(dtype=torch.float32)
    loss = make(name, hard_weight=0.3)
    expected, expected_gradients = one.run(loss)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, gradients = one.run(loss)
    assert torch.equal(out.loss, expected.loss)
    all_close(gradients, expected_gradients)


@every_loss
def test_parts_add_up_to_the_batch(name: str) -> None:
    """Two micro-batches, divided by the rows of both, equal one that holds both."""
    loss = make(name, temperature=2.0, hard_weight=0.3)
    one = case()
    whole, expected = one.run(loss, count=12)
    cuts = ((slice(0, 4), slice(0, 3), 0), (slice(4, None), slice(3, None), 2))
    total = torch.zeros(())
    parts = []
    for ours, theirs, before in cuts:
        student, teacher = one.student, one.teacher
        assert isinstance(student, Projected)
        assert isinstance(teacher, Projected)
        part = replace(
            one,
            student=replace(student, hidden_NH=student.hidden_NH[ours]),
            teacher=replace(teacher, hidden_NH=teacher.hidden_NH[theirs]),
            labels_N=one.labels_N[ours],
            teacher_labels_M=one.teacher_labels_M[theirs],
            student_spans=[max(span - before, -1) for span in one.student_spans[ours]],
            teacher_spans=[max(span - before, -1) for span in one.teacher_spans[theirs]],
        )
        parts.append(part.output(loss, count=12))
        total = total + parts[-1].loss
    close(total, whole.loss)
    close(torch.stack([part.divergence for part in parts]).sum(), whole.divergence)
    all_close(list(torch.autograd.grad(total, one.leaves)), expected)


@pytest.mark.parametrize("name", ["uld_hybrid", "span_kl"])
def test_nothing_in_common(name: str) -> None:
    """No matched entry at all, and matches that a head is too small for: values stay those of the formula."""
    strings = [b"q", b"r", b"s", b"t"]
    one = case(student_strings=strings)
    loss = make(name)
    out, gradients = one.run(loss)
    expected = plain(loss, one)
    close(out.loss, expected)
    all_close(gradients, torch.autograd.grad(expected, one.leaves))
    beyond = Matched(student_K=torch.tensor([4, 99]), teacher_K=torch.tensor([0, 1]))
    close(cross_loss(loss, one.rows(), matched=beyond, count=5).loss, out.loss)


def test_an_id_matched_twice_is_a_mistake() -> None:
    twice = Matched(student_K=torch.tensor([1, 1]), teacher_K=torch.tensor([0, 1]))
    with pytest.raises(AssertionError, match="matched twice"):
        cross_loss(make("uld_hybrid"), case().rows(), matched=twice, count=1)
