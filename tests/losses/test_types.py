"""The engine in narrow and mixed types, on every device: what it rounds and what it must not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from loss_cases import Case, close, dense, dense_case, every_loss, make, projected_case

from kdlab.losses.engine import row_loss
from kdlab.rows import Dense, Projected


def typed(case: Case, hidden: torch.dtype, weight: torch.dtype) -> Case:
    """The case with its hidden states in one type and its head in another, as under mixed precision."""
    sides = []
    for side, grad in ((case.student, True), (case.teacher, False)):
        assert isinstance(side, Projected)
        bias_V = None if side.bias_V is None else side.bias_V.detach().to(weight).requires_grad_(grad)
        sides.append(
            replace(
                side,
                hidden_NH=side.hidden_NH.detach().to(hidden).requires_grad_(grad),
                weight_VH=side.weight_VH.detach().to(weight).requires_grad_(grad),
                bias_V=bias_V,
            )
        )
    return replace(case, student=sides[0], teacher=sides[1])


@pytest.mark.parametrize(
    ("hidden", "weight", "tolerance"),
    [
        (torch.float64, torch.float64, 1e-12),
        (torch.float32, torch.float32, 1e-5),
        (torch.float32, torch.float64, 1e-5),
        (torch.float32, torch.bfloat16, 0.02),
        (torch.bfloat16, torch.float32, 0.02),
        (torch.bfloat16, torch.bfloat16, 0.02),
        (torch.float16, torch.float32, 0.004),
        (torch.float16, torch.float16, 0.004),
    ],
)
@pytest.mark.parametrize("softcap", [None, 4.0])
@pytest.mark.parametrize("autocast", [False, True])
def test_types(
    hidden: torch.dtype, weight: torch.dtype, tolerance: float, softcap: float | None, autocast: bool
) -> None:
    loss = make("jensen_shannon", temperature=2.0, hard_weight=0.3, chunk_rows=16)
    exact = projected_case(rows=64, vocabulary=50, softcap=softcap)
    expected, expected_gradients = exact.run(loss)
    case = typed(exact, hidden, weight)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        out, gradients = case.run(loss)
    assert out.loss.dtype == (torch.float64 if hidden == torch.float64 else torch.float32)
    close(out.loss, expected.loss, tolerance)
    for gradient, leaf, reference in zip(gradients, case.leaves, expected_gradients, strict=True):
        assert gradient.dtype == leaf.dtype
        assert (gradient.double() - reference).norm() <= tolerance * reference.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dense_types(dtype: torch.dtype) -> None:
    loss = make("reverse_kl", temperature=2.0, hard_weight=0.3)
    exact = dense_case()
    expected, (reference,) = exact.run(loss)
    student, teacher = (
        Dense(logits_NV=dense(side, grad=False).logits_NV.to(dtype).requires_grad_(grad))
        for side, grad in ((exact.student, True), (exact.teacher, False))
    )
    out, (gradient,) = replace(exact, student=student, teacher=teacher).run(loss)
    assert gradient.dtype == dtype
    close(out.loss, expected.loss, 0.02)
    assert (gradient.double() - reference).norm() <= 0.02 * reference.norm()


@pytest.mark.parametrize("kind", ["projected", "dense"])
def test_float16_gradients_do_not_underflow_under_a_loss_scaler(kind: str) -> None:
    """A scaler multiplies the loss, so what is smaller than float16 holds before it must not be rounded away."""
    scale, count = 2.0**16, 1e7
    exact = projected_case(bias=False) if kind == "projected" else dense_case()
    loss = make("forward_kl", temperature=2.0)
    reference = exact.run(loss, count=count)[1][0]
    if kind == "projected":
        case = typed(exact, torch.float16, torch.float32)
    else:
        student, teacher = (
            Dense(logits_NV=dense(side, grad=False).logits_NV.half().requires_grad_(grad))
            for side, grad in ((exact.student, True), (exact.teacher, False))
        )
        case = replace(exact, student=student, teacher=teacher)
    out = row_loss(loss, case.rows(), count=count)
    (gradient, *_) = torch.autograd.grad(out.loss * scale, case.leaves)
    assert (gradient.double() - reference * scale).norm() <= 0.01 * (reference * scale).norm()


@every_loss
def test_bfloat16_hidden_states(name: str) -> None:
    """Products in bfloat16, the rest in float32: loss to 1 %, gradients to 3 % of their norm, however many chunks."""
    loss = make(name, temperature=2.0, hard_weight=0.3, chunk_rows=2)
    exact = projected_case(rows=64, vocabulary=50)
    assert isinstance(exact.student, Projected)
    assert isinstance(exact.teacher, Projected)
    narrow = replace(
        exact,
        student=replace(exact.student, hidden_NH=exact.student.hidden_NH.detach().bfloat16().requires_grad_()),
        teacher=replace(exact.teacher, hidden_NH=exact.teacher.hidden_NH.bfloat16()),
    )
    expected, expected_gradients = exact.run(loss)
    out, gradients = narrow.run(loss)
    close(out.loss.double(), expected.loss, 0.01)
    assert [gradient.dtype for gradient in gradients] == [leaf.dtype for leaf in narrow.leaves]
    for gradient, reference in zip(gradients, expected_gradients, strict=True):
        assert (gradient.double() - reference).norm() <= 0.03 * reference.norm()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@every_loss
def test_on_a_gpu_as_on_the_processor(name: str) -> None:
    loss = make(name, temperature=2.0, hard_weight=0.3, chunk_rows=16)
    exact = projected_case(rows=64, vocabulary=50, softcap=4.0)
    expected, reference = exact.run(loss)
    for dtype, tolerance in ((torch.float32, 1e-3), (torch.bfloat16, 0.03)):
        case = typed(exact, dtype, torch.float32)
        sides = []
        for side, grad in ((case.student, True), (case.teacher, False)):
            assert isinstance(side, Projected)
            moved = {
                field: tensor.detach().cuda().requires_grad_(grad)
                for field in ("hidden_NH", "weight_VH", "bias_V")
                if (tensor := getattr(side, field)) is not None
            }
            sides.append(replace(side, **moved))
        out, gradients = Case(student=sides[0], teacher=sides[1], labels_N=exact.labels_N.cuda()).run(loss)
        close(out.loss.cpu(), expected.loss, tolerance)
        for gradient, other in zip(gradients, reference, strict=True):
            assert (gradient.cpu().double() - other).norm() <= tolerance * other.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_gradients_do_not_lose_the_later_chunks(dtype: torch.dtype) -> None:
    """Summed in bfloat16, the 600th chunk's share would vanish beside the sum of those before."""
    exact = projected_case(rows=600, vocabulary=12)
    exact.labels_N = torch.zeros_like(exact.labels_N)  # every row pulls the same way, so the sum grows and grows
    _, reference = exact.run(make("hard"))
    _, gradients = typed(exact, dtype, torch.float32).run(make("hard", chunk_rows=1))
    for gradient, other in zip(gradients[1:], reference[1:], strict=True):
        assert (gradient.double() - other).norm() <= 0.004 * other.norm()
