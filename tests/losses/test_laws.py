"""Laws that every row loss obeys by being listed in LOSSES; see DESIGN. Values and gradients, through the engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import (
    Case,
    all_close,
    close,
    dense,
    dense_case,
    every_loss,
    every_option,
    make,
    plain,
    projected_case,
)

from kdlab.losses import LOSSES
from kdlab.losses.engine import row_loss
from kdlab.losses.tile import has_closed_form
from kdlab.rows import Dense, Projected, Rows

TAUGHT = [name for name in LOSSES if name != "hard"]
every_taught_loss = pytest.mark.parametrize("name", TAUGHT)


@every_option
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_zero_and_stationary_when_student_is_teacher(name: str, options: dict[str, Any], temperature: float) -> None:
    if name == "hard":
        pytest.skip("hard has no teacher to equal")
    case = dense_case()
    case = replace(case, teacher=dense(case.student, grad=False))
    out, gradients = case.run(make(name, temperature=temperature, **options))
    close(out.loss, torch.tensor(0.0))
    close(out.divergence, torch.tensor(0.0))
    close(gradients[0], torch.zeros_like(gradients[0]))


@every_option
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_never_negative(name: str, options: dict[str, Any], data: st.DataObject) -> None:
    numbers = st.lists(st.floats(-30, 30, width=32), min_size=5, max_size=5)
    student_NV, teacher_NV = (torch.tensor([data.draw(numbers)], dtype=torch.float64) for _ in range(2))
    label = torch.tensor([data.draw(st.integers(0, 4))])
    loss = make(name, **options)
    for dtype in (torch.float32, torch.float64):
        rows = Rows(
            student=Dense(logits_NV=student_NV.to(dtype)), teacher=Dense(logits_NV=teacher_NV.to(dtype)), labels_N=label
        )
        out = row_loss(loss, rows, count=1)
        assert out.loss >= 0
        assert out.divergence >= 0
        assert out.hard is None or out.hard >= 0
    if name != "hard":  # the formula itself, without the engine's clamp: rounding is all that may go below 0
        sides = [student_NV, teacher_NV]
        if loss.space == "log_probability":
            sides = [side.log_softmax(-1) for side in sides]
        value = loss.divergence(*sides)
        assert value >= -1e-11 * (1 + max(side.abs().max() for side in sides)) ** 2


@every_loss
@pytest.mark.parametrize("chunk_rows", [1, 3, 7, 100])
@pytest.mark.parametrize("make_case", [projected_case, dense_case])
def test_chunks_change_neither_value_nor_gradient(name: str, chunk_rows: int, make_case: Any) -> None:
    options = {"temperature": 2.0, "hard_weight": 0.3}
    case = make_case()
    whole, expected = case.run(make(name, **options, chunk_rows="auto"))
    out, gradients = case.run(make(name, **options, chunk_rows=chunk_rows))
    close(out.loss, whole.loss)
    close(out.divergence, whole.divergence)
    all_close(gradients, expected)


@every_option
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("hard_weight", [0.0, 0.3, 1.0])
def test_gradient_is_that_of_the_plain_formula(
    name: str, options: dict[str, Any], temperature: float, hard_weight: float
) -> None:
    loss = make(name, temperature=temperature, hard_weight=hard_weight, chunk_rows=4, **options)
    for case in (projected_case(), projected_case(bias=False), dense_case()):
        out, gradients = case.run(loss, count=7.0)
        expected = plain(loss, case.student, case.teacher, case.labels_N, count=7.0)
        close(out.loss, expected)
        all_close(gradients, torch.autograd.grad(expected, case.leaves))


@every_loss
@pytest.mark.parametrize("t2_scale", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_scaled_and_capped_heads(name: str, t2_scale: bool, scale: float, softcap: float | None) -> None:
    loss = make(name, temperature=2.0, hard_weight=0.2, t2_scale=t2_scale, chunk_rows=4)
    case = projected_case(scale=scale, softcap=softcap)
    out, gradients = case.run(loss)
    expected = plain(loss, case.student, case.teacher, case.labels_N, count=11)
    close(out.loss, expected)
    all_close(gradients, torch.autograd.grad(expected, case.leaves))


@every_loss
def test_projected_is_dense(name: str) -> None:
    loss = make(name, temperature=2.0, hard_weight=0.3, chunk_rows=4)
    case = projected_case()
    dense_student, dense_teacher = dense(case.student, grad=True), dense(case.teacher, grad=False)
    whole, (gradient_NV,) = replace(case, student=dense_student, teacher=dense_teacher).run(loss)
    assert isinstance(case.student, Projected)
    assert case.student.bias_V is not None
    through_head = torch.autograd.grad(case.student.dense().logits_NV, case.leaves, grad_outputs=gradient_NV)
    for teacher in (case.teacher, dense_teacher):
        out, gradients = replace(case, teacher=teacher).run(loss)
        close(out.loss, whole.loss)
        all_close(gradients, through_head)
        out, (gradient,) = replace(case, student=dense_student, teacher=teacher).run(loss)
        close(out.loss, whole.loss)
        close(gradient, gradient_NV)


@every_loss
@pytest.mark.parametrize("make_case", [projected_case, dense_case])
@pytest.mark.parametrize("count", [0.0, 5.0])
def test_no_rows_give_zero_with_a_graph(name: str, make_case: Any, count: float) -> None:
    case = make_case(rows=0)
    out = row_loss(make(name, hard_weight=0.5), case.rows(), count=count)
    assert out.loss.item() == 0
    assert out.divergence.item() == 0
    out.loss.backward()
    for leaf in case.leaves:
        assert leaf.grad is not None
        assert leaf.grad.shape == leaf.shape
        assert not leaf.grad.any()


@every_option
def test_closed_form_is_autograd(name: str, options: dict[str, Any]) -> None:
    loss = make(name, **options)
    if not has_closed_form(loss):
        pytest.skip(f"{name} has no closed form: the engine differentiates its formula")
    case = dense_case(rows=40)
    assert isinstance(case.student, Dense)
    assert isinstance(case.teacher, Dense)
    for sharpness in (0.1, 1.0, 8.0):
        logits_NV = (case.student.logits_NV.detach() * sharpness).requires_grad_()
        student_NV = logits_NV.log_softmax(-1)
        teacher_NV = (case.teacher.logits_NV * sharpness).log_softmax(-1)
        value_N = loss.divergence(student_NV, teacher_NV)
        (gradient_NV,) = torch.autograd.grad(value_N.sum(), logits_NV)
        scratch = [tensor.detach().clone() for tensor in (student_NV, teacher_NV, student_NV.exp(), teacher_NV.exp())]
        closed = loss.closed_form(*scratch)
        assert closed is not None
        close(closed[0], value_N.detach())
        close(closed[1], gradient_NV, 1e-9 * max(1.0, float(gradient_NV.abs().max())))


@every_taught_loss
def test_continuous_as_the_hard_weight_vanishes(name: str) -> None:
    case = projected_case()
    out, gradients = case.run(make(name, temperature=2.0))
    for hard_weight in (1e-6, 1e-12):
        near, near_gradients = case.run(make(name, temperature=2.0, hard_weight=hard_weight))
        close(near.loss, out.loss, 100 * hard_weight + 1e-12)
        all_close(near_gradients, gradients, 100 * hard_weight + 1e-12)
    assert out.hard is None
    assert near.hard is not None


@every_loss
@pytest.mark.parametrize("tied", [True, False])
def test_tied_and_untied_heads(name: str, tied: bool) -> None:
    """A head that is also the embedding gets both gradients; one that is not, only its own."""
    loss = make(name, temperature=2.0, hard_weight=0.3, chunk_rows=4)
    draw = torch.Generator().manual_seed(3)
    embedding_VH = torch.randn(23, 6, generator=draw, dtype=torch.float64).requires_grad_()
    head_VH = embedding_VH if tied else torch.randn(23, 6, generator=draw, dtype=torch.float64).requires_grad_()
    base = projected_case()
    ids_N = torch.randint(23, (11,), generator=draw)
    leaves = [embedding_VH] if tied else [embedding_VH, head_VH]

    def student() -> Projected:
        return Projected(hidden_NH=torch.tanh(embedding_VH[ids_N]), weight_VH=head_VH)

    out = row_loss(loss, replace(base, student=student()).rows(), count=11)
    expected = plain(loss, student(), base.teacher, base.labels_N, count=11)
    close(out.loss, expected)
    all_close(list(torch.autograd.grad(out.loss, leaves)), torch.autograd.grad(expected, leaves))


@every_loss
def test_accumulation_equals_the_big_batch(name: str) -> None:
    """1 x 8 = 8 x 1 = 2 ranks x 4 rows, uneven parts too: divided by the rows of the whole step, sums add up."""
    loss = make(name, temperature=2.0, hard_weight=0.3)
    case = projected_case(rows=8)
    whole, expected = case.run(loss, count=8)
    for parts in ([1] * 8, [4, 4], [5, 0, 3]):
        start, total, gradients = 0, torch.zeros(()), [torch.zeros_like(leaf) for leaf in case.leaves]
        for length in parts:
            out = row_loss(loss, case.part(slice(start, start + length)).rows(), count=8)
            total = total + out.loss.detach()
            for gradient, more in zip(gradients, torch.autograd.grad(out.loss, case.leaves), strict=True):
                gradient += more
            start += length
        close(total, whole.loss)
        all_close(gradients, expected)


@every_option
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_at_extreme_logits(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    """Logits of +-1e4: one-hot teachers and students, alike and opposed, at any temperature."""
    if options.get("beta", 0) < 0 or options.get("alpha", 0) < 0:
        pytest.skip("a negative exponent has no finite value where a side has no mass")
    student_NV = torch.tensor([[1e4, -1e4, 0], [1e4, -1e4, 0], [-1e4, -1e4, 1e4], [0, 0, 0], [1e4, 1e4, 1e4]])
    teacher_NV = torch.tensor([[1e4, -1e4, 0], [-1e4, 1e4, 0], [0, 0, 0], [-1e4, 1e4, -1e4], [1e4, 1e4, -1e4]])
    labels_N = torch.tensor([0, 1, 2, 1, 2])
    for hard_weight in (0.0, 0.5):
        for temperature in (0.5, 1.0, 4.0):
            case = Case(
                student=Dense(logits_NV=student_NV.to(dtype).requires_grad_()),
                teacher=Dense(logits_NV=teacher_NV.to(dtype)),
                labels_N=labels_N,
            )
            loss = make(name, temperature=temperature, hard_weight=hard_weight, **options)
            out, gradients = case.run(loss)
            assert out.loss.isfinite()
            assert gradients[0].isfinite().all()
            with torch.no_grad():
                close(row_loss(loss, case.rows(), count=5).loss, out.loss.detach(), 1e-5)


@every_loss
def test_values_alone_are_the_same(name: str) -> None:
    loss = make(name, temperature=2.0, hard_weight=0.3)
    case = projected_case(softcap=3.0)
    out, _ = case.run(loss)
    with torch.no_grad():
        value = row_loss(loss, case.rows(), count=11)
    assert not value.loss.requires_grad
    close(value.loss, out.loss.detach())
    close(value.divergence, out.divergence)
