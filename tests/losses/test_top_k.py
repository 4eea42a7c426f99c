"""Every listed loss over a teacher's K most likely tokens and one bucket of all others."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import DEFAULTS, OTHER_OPTIONS, Case, all_close, close, dense, dense_case, make, projected_case
from sparse_cases import keep, logits, merged_loss, part_of, run_with
from test_engine import Largest

from kdlab.losses import LOSSES, compiled
from kdlab.losses.engine import row_loss
from kdlab.rows import Dense, Projected, Rows, TopK

ALL = [(name, options) for name, options in DEFAULTS + OTHER_OPTIONS if name not in ("hard", "logit_mse")]
every_option = pytest.mark.parametrize(("name", "options"), ALL, ids=[f"{name}-{options}" for name, options in ALL])
every_loss = pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("hard", "logit_mse")])
COARSENED = ["forward_kl", "reverse_kl", "symmetric", "jensen_shannon", "skew_forward", "skew_reverse"]
COARSENED += ["total_variation"]
"""Losses that merging outcomes cannot raise: f-divergences (the data-processing inequality)."""


@every_option
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("hard_weight", [0.0, 0.3])
def test_value_and_gradient_are_those_of_the_merged_outcomes(
    name: str, options: dict[str, Any], temperature: float, hard_weight: float
) -> None:
    loss = make(name, temperature=temperature, hard_weight=hard_weight, chunk_rows=4, **options)
    capped = projected_case(bias=False, scale=0.5, softcap=2.0)
    for case in (projected_case(), dense_case(), capped):
        top = keep(case.teacher, 5, temperature=temperature)
        out, gradients = run_with(case, top, loss, count=7.0)
        expected = merged_loss(loss, case, top.ids_NK, count=7.0)
        close(out.loss, expected)
        all_close(gradients, torch.autograd.grad(expected, case.leaves))


def test_three_tokens_by_hand() -> None:
    """p = (.7, .2, .1), q = (.5, .2, .3), K = 1: the outcomes are .7 | .3 and .5 | .5."""
    p, q = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.5, 0.2, 0.3]])
    case = Case(
        student=Dense(logits_NV=q.double().log().requires_grad_()),
        teacher=Dense(logits_NV=p.double().log()),
        labels_N=torch.tensor([2]),
    )
    top = TopK(
        ids_NK=torch.tensor([[0]]),
        logp_NK=torch.tensor([[0.7]]).double().log(),
        rest_N=torch.tensor([0.3]).double().log(),
        vocabulary=3,
    )
    out, (gradient_NV,) = run_with(case, top, make("forward_kl"))
    close(out.loss, torch.tensor(0.0822829), 1e-6)  # .7 ln(.7 / .5) + .3 ln(.3 / .5)
    # kept: q - p = -.2; the others share +.2 as .2 : .3
    close(gradient_NV, torch.tensor([[-0.2, 0.08, 0.12]]), 1e-6)


@every_loss
@pytest.mark.parametrize("chunk_rows", [1, 3, 100])
@pytest.mark.parametrize("make_case", [projected_case, dense_case])
def test_chunks_and_accumulation_change_nothing(name: str, chunk_rows: int, make_case: Any) -> None:
    case = make_case()
    top = keep(case.teacher, 4, temperature=2.0)
    options = {"temperature": 2.0, "hard_weight": 0.3}
    whole, expected = run_with(case, top, make(name, **options))
    out, gradients = run_with(case, top, make(name, **options, chunk_rows=chunk_rows))
    close(out.loss, whole.loss)
    close(out.divergence, whole.divergence)
    all_close(gradients, expected)
    total = torch.zeros(())
    for rows in (slice(0, 5), slice(5, 5), slice(5, 11)):
        total = total + run_with(case.part(rows), part_of(top, rows), make(name, **options), count=11)[0].loss.detach()
    close(total, whole.loss)


@every_option
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_zero_and_stationary_where_the_outcomes_agree(name: str, options: dict[str, Any], temperature: float) -> None:
    """A student that spreads the bucket's mass in its own way matches all that the signal tells."""
    case = dense_case()
    top = keep(case.teacher, 6, temperature=temperature)
    student_NV = (logits(case.teacher) / temperature).log_softmax(-1)
    others_NV = torch.randn(student_NV.shape, dtype=torch.float64).scatter(1, top.ids_NK, -torch.inf)
    others_NV = others_NV.log_softmax(-1) + top.rest_N[:, None]
    student_NV = others_NV.scatter(1, top.ids_NK, top.logp_NK) * temperature + 3
    case = replace(case, student=Dense(logits_NV=student_NV.requires_grad_()))
    out, gradients = run_with(case, top, make(name, temperature=temperature, **options))
    close(out.loss, torch.tensor(0.0))
    if name != "total_variation":  # |x| has a kink at 0, and rounding puts x beside it
        close(gradients[0], torch.zeros_like(gradients[0]))


@every_option
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_never_negative_however_a_codec_rounds(name: str, options: dict[str, Any], data: st.DataObject) -> None:
    numbers = st.lists(st.floats(-30, 30, width=32), min_size=6, max_size=6)
    student_NV, teacher_NV = (torch.tensor([data.draw(numbers)], dtype=torch.float32) for _ in range(2))
    steps = data.draw(st.sampled_from([1e6, 64.0, 8.0]))
    top = keep(Dense(logits_NV=teacher_NV), data.draw(st.integers(1, 5)))
    top = replace(top, logp_NK=(top.logp_NK * steps).round() / steps)
    rows = Rows(student=Dense(logits_NV=student_NV), teacher=top, labels_N=torch.tensor([0]))
    assert row_loss(make(name, **options), rows, count=1).divergence >= 0


@pytest.mark.parametrize("name", COARSENED)
@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_a_lower_bound_that_rises_with_k_to_the_whole(name: str, sharpness: float) -> None:
    case = dense_case(rows=60)
    case = Case(
        student=Dense(logits_NV=(logits(case.student).detach() * sharpness).requires_grad_()),
        teacher=Dense(logits_NV=logits(case.teacher) * sharpness),
        labels_N=case.labels_N,
    )
    values = [float(run_with(case, keep(case.teacher, k), make(name))[0].divergence) for k in (1, 2, 5, 12, 22, 23)]
    assert values[0] > 0
    for smaller, larger in itertools.pairwise(values):
        assert smaller <= larger * (1 + 1e-12)
    close(torch.tensor(values[-1]), torch.tensor(float(case.run(make(name))[0].divergence)))


@every_option
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_all_entries_are_the_dense_teacher_at_any_temperature(
    name: str, options: dict[str, Any], temperature: float
) -> None:
    case = projected_case(dtype=torch.float32)
    loss = make(name, temperature=temperature, hard_weight=0.3, chunk_rows=4, **options)
    expected, reference = case.run(loss)
    for kept_at in (1.0, 3.0):
        out, gradients = run_with(case, keep(case.teacher, 23, temperature=kept_at), loss)
        close(out.loss, expected.loss, 1e-5)
        all_close(gradients, reference, 1e-5)


@every_loss
def test_projected_is_dense(name: str) -> None:
    loss = make(name, temperature=2.0, hard_weight=0.3, chunk_rows=4)
    case = projected_case()
    assert isinstance(case.student, Projected)
    top = keep(case.teacher, 5, temperature=2.0)
    whole, (gradient_NV,) = run_with(replace(case, student=dense(case.student, grad=True)), top, loss)
    out, gradients = run_with(case, top, loss)
    close(out.loss, whole.loss)
    all_close(gradients, torch.autograd.grad(case.student.dense().logits_NV, case.leaves, grad_outputs=gradient_NV))


@every_loss
def test_masked_entries_take_no_part(name: str) -> None:
    """Entries that the student masks with -inf, in the bucket, change nothing and get no gradient."""
    loss = make(name, hard_weight=0.3, chunk_rows=4)
    case = dense_case()
    top = keep(case.teacher, 5)
    expected, (reference,) = run_with(case, top, loss)
    wide_NV = torch.cat([logits(case.student).detach(), torch.full((11, 4), -torch.inf, dtype=torch.float64)], 1)
    wide = replace(case, student=Dense(logits_NV=wide_NV.requires_grad_()))
    out, (gradient_NV,) = run_with(wide, replace(top, vocabulary=27), loss)
    close(out.loss, expected.loss)
    close(gradient_NV[:, :23], reference)
    assert not gradient_NV[:, 23:].any()


def test_a_bucket_that_is_empty_on_both_sides() -> None:
    """Only K entries have mass on either side: the same as a vocabulary of K."""
    narrow = dense_case(vocabulary=5)
    mask_N4 = torch.full((11, 4), -torch.inf, dtype=torch.float64)
    sides = [torch.cat([logits(side).detach(), mask_N4], 1) for side in (narrow.student, narrow.teacher)]
    wide = replace(narrow, student=Dense(logits_NV=sides[0].requires_grad_()), teacher=Dense(logits_NV=sides[1]))
    for name in ("forward_kl", "reverse_kl", "jensen_shannon", "total_variation"):
        expected, (reference,) = narrow.run(make(name))
        out, (gradient_NV,) = run_with(wide, keep(wide.teacher, 5), make(name))
        close(out.loss, expected.loss)
        close(gradient_NV[:, :5], reference)
        assert not gradient_NV[:, 5:].any()


def test_a_tail_too_small_for_one_minus_a_sum() -> None:
    """The student's bucket holds e^-40, which 1 - Σ q cannot tell from 0, in float32."""
    student_NV = torch.tensor([[0.0, -40.0, -41.0, -42.0]], requires_grad=True)
    top = TopK(
        ids_NK=torch.tensor([[0]]),
        logp_NK=torch.tensor([[-0.5]]),
        rest_N=torch.tensor([-0.5]).expm1().neg().log(),
        vocabulary=4,
    )
    case = Case(student=Dense(logits_NV=student_NV), teacher=Dense(logits_NV=student_NV), labels_N=torch.tensor([0]))
    out, (gradient_NV,) = run_with(case, top, make("forward_kl"))
    exact_NV = student_NV.detach().double().log_softmax(-1)
    p = torch.tensor([-0.5, float(top.rest_N)], dtype=torch.float64)
    q = torch.stack([exact_NV[0, 0], exact_NV[0, 1:].logsumexp(0)])
    close(out.loss, (p.exp() * (p - q)).sum(), 1e-5)
    shares_V = exact_NV[0, 1:].softmax(0)
    close(gradient_NV[0, 1:], (q[1].exp() - p[1].exp()) * shares_V, 1e-5)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02), (torch.float16, 0.004)]
)
@pytest.mark.parametrize("softcap", [None, 4.0])
@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "adaptive_kl"])
def test_narrow_students(name: str, dtype: torch.dtype, tolerance: float, softcap: float | None) -> None:
    loss = make(name, temperature=2.0, hard_weight=0.3, chunk_rows=16)
    exact = projected_case(rows=64, vocabulary=50, softcap=softcap)
    assert isinstance(exact.student, Projected)
    assert exact.student.bias_V is not None
    top = keep(exact.teacher, 8, temperature=2.0)
    expected, references = run_with(exact, top, loss)
    narrow = replace(
        exact.student,
        hidden_NH=exact.student.hidden_NH.detach().to(dtype).requires_grad_(),
        weight_VH=exact.student.weight_VH.detach().to(dtype).requires_grad_(),
        bias_V=exact.student.bias_V.detach().to(dtype).requires_grad_(),
    )
    case = replace(exact, student=narrow)
    top = replace(top, ids_NK=top.ids_NK.to(torch.int32), logp_NK=top.logp_NK.float(), rest_N=top.rest_N.float())
    out, gradients = run_with(case, top, loss)
    assert out.loss.dtype == torch.float32
    close(out.loss, expected.loss, tolerance)
    for gradient, leaf, reference in zip(gradients, case.leaves, references, strict=True):
        assert gradient.dtype == leaf.dtype
        assert (gradient.double() - reference).norm() <= tolerance * reference.norm()


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", ["forward_kl", "jensen_shannon"])
def test_no_tensor_holds_all_rows_by_vocabulary(name: str, grad: bool) -> None:
    case = projected_case(rows=160, vocabulary=200, bias=False)
    top = keep(case.teacher, 5, temperature=2.0)
    rows = Rows(student=case.student, teacher=top, labels_N=case.labels_N)
    loss = make(name, hard_weight=0.5, temperature=2.0, chunk_rows=16)
    with torch.set_grad_enabled(grad), Largest() as seen:
        out = row_loss(loss, rows, count=160)
        if grad:
            out.loss.backward()
    assert seen.elements <= 16 * 200


@every_loss
def test_no_rows_give_zero_with_a_graph(name: str) -> None:
    case = projected_case(rows=0)
    out, gradients = run_with(case, keep(case.teacher, 3), make(name, hard_weight=0.5), count=5)
    assert out.loss.item() == 0
    assert not any(gradient.any() for gradient in gradients)


def test_nobody_is_changed_and_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "missing_compiler", lambda device_type: pytest.fail("a sparse teacher stays eager"))
    for case in (projected_case(), dense_case()):
        top = keep(case.teacher, 5)
        tensors = [top.ids_NK, top.logp_NK, top.rest_N, *case.leaves]
        before = [tensor.detach().clone() for tensor in tensors]
        for name in ("forward_kl", "jensen_shannon", "alpha_beta"):
            run_with(case, top, make(name, hard_weight=0.3, compile=True))
        assert all(torch.equal(tensor, old) for tensor, old in zip(tensors, before, strict=True))
