"""Laws that every cross-tokenizer loss obeys by being listed in CROSS_LOSSES; through the engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from cross_cases import Case, all_close, case, close, every_loss, every_option, make, plain, twins
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.losses import CROSS_LOSSES
from kdlab.rows import Dense, Projected


@every_option
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("sharpness", [1.0, 3.0])
def test_zero_and_stationary_when_student_is_teacher(
    name: str, options: dict[str, Any], temperature: float, sharpness: float
) -> None:
    out, (gradient_NV,) = twins(sharpness=sharpness).run(make(name, temperature=temperature, **options))
    close(out.loss, torch.tensor(0.0))
    close(out.divergence, torch.tensor(0.0))
    close(gradient_NV, torch.zeros_like(gradient_NV))


@every_option
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), sharpness=st.sampled_from([0.01, 1.0, 5.0, 30.0]))
def test_never_negative(name: str, options: dict[str, Any], seed: int, sharpness: float) -> None:
    for dtype in (torch.float32, torch.float64):
        out = case(seed=seed, sharpness=sharpness, dtype=dtype).output(make(name, hard_weight=0.3, **options))
        assert out.loss >= 0
        assert out.divergence >= 0
        assert out.hard is not None
        assert out.hard >= 0
        assert torch.isfinite(out.loss)


@every_option
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("hard_weight", [0.0, 0.3, 1.0])
def test_gradient_is_that_of_the_plain_formula(
    name: str, options: dict[str, Any], temperature: float, hard_weight: float
) -> None:
    if name == "optimal_transport":  # the envelope theorem holds where the potentials have settled
        options = {"iterations": 120, "epsilon": 0.5, **options}
    loss = make(name, temperature=temperature, hard_weight=hard_weight, chunk_rows=4, **options)
    for one in (case(), case(bias=False, softcap=2.0, scale=0.5), case().dense()):
        out, gradients = one.run(loss)
        expected = plain(loss, one)
        close(out.loss, expected)
        all_close(gradients, torch.autograd.grad(expected, one.leaves))


@every_loss
@pytest.mark.parametrize("chunk_rows", [1, 2, 5, 100])
@pytest.mark.parametrize("hard_weight", [0.0, 0.3])
def test_chunks_change_neither_value_nor_gradient(name: str, chunk_rows: int, hard_weight: float) -> None:
    for one in (case(), case().dense()):
        whole, expected = one.run(make(name, temperature=2.0, hard_weight=hard_weight))
        out, gradients = one.run(make(name, temperature=2.0, hard_weight=hard_weight, chunk_rows=chunk_rows))
        close(out.loss, whole.loss)
        close(out.divergence, whole.divergence)
        all_close(gradients, expected)


@every_loss
@pytest.mark.parametrize("hard_weight", [0.0, 0.3])
def test_projected_is_dense(name: str, hard_weight: float) -> None:
    loss = make(name, temperature=2.0, hard_weight=hard_weight, chunk_rows=4)
    one = case()
    whole, (gradient_NV,) = one.dense().run(loss)
    assert isinstance(one.student, Projected)
    through_head = torch.autograd.grad(one.student.dense().logits_NV, one.leaves, grad_outputs=gradient_NV)
    for mixed in (one, one.dense(student=False)):
        out, gradients = mixed.run(loss)
        close(out.loss, whole.loss)
        all_close(gradients, through_head)
    out, (gradient,) = one.dense(teacher=False).run(loss)
    close(out.loss, whole.loss)
    close(gradient, gradient_NV)


@every_loss
@pytest.mark.parametrize("count", [0.0, 5.0])
def test_no_rows_give_zero_with_a_graph(name: str, count: float) -> None:
    for one in (case([], []), case([], []).dense()):
        out = one.output(make(name, hard_weight=0.5), count=count)
        assert out.loss.item() == out.divergence.item() == 0
        out.loss.backward()
        for leaf in one.leaves:
            assert leaf.grad is not None
            assert leaf.grad.shape == leaf.shape
            assert not leaf.grad.any()


@every_loss
def test_rows_without_spans_give_zero_with_a_graph(name: str) -> None:
    one = case([-1, -1, -1], [-1, -1])
    out, gradients = one.run(make(name))
    assert out.loss.item() == out.divergence.item() == 0
    assert not any(gradient.any() for gradient in gradients)
    mixed, gradients = one.run(make(name, hard_weight=0.25))
    assert mixed.divergence.item() == 0
    expected = torch.nn.functional.cross_entropy(one.student.dense().logits_NV, one.labels_N, reduction="sum")
    close(mixed.loss, expected * 0.25 / 5)
    all_close(gradients, torch.autograd.grad(expected * 0.25 / 5, one.leaves))


@every_loss
def test_which_rows_the_teacher_teaches(name: str) -> None:
    """None outside of spans; only the first of a span, or all where spans are merged."""
    one = case()
    for side in (one, one.dense()):
        loss = make(name, temperature=2.0)
        _, gradients = side.run(loss)
        for n, span in enumerate(one.student_spans):
            first = one.student_spans.index(span) == n
            assert bool(gradients[0][n].any()) == (span >= 0 and (first or loss.merges)), n
    changed = replace(one, labels_N=(one.labels_N + 1) % 13)
    before, after = one.output(make(name)), changed.output(make(name))
    assert (before.loss == after.loss) == (not make(name).merges)


@every_loss
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_hard_term_is_cross_entropy_at_temperature_one(name: str, temperature: float) -> None:
    one = case()
    expected = torch.nn.functional.cross_entropy(one.student.dense().logits_NV, one.labels_N, reduction="sum")
    out, gradients = one.run(make(name, hard_weight=1.0, temperature=temperature))
    assert out.hard is not None
    close(out.hard, expected)
    close(out.loss, expected / 5)
    assert out.divergence.item() == 0
    all_close(gradients, torch.autograd.grad(expected / 5, one.leaves))
    soft = one.output(make(name, temperature=temperature))
    assert soft.hard is None
    mixed = one.output(make(name, temperature=temperature, hard_weight=0.25))
    close(mixed.divergence, soft.divergence)
    close(mixed.loss, (0.75 * soft.divergence + 0.25 * expected) / 5)


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_narrow_types(name: str, dtype: torch.dtype) -> None:
    loss = make(name, temperature=2.0, hard_weight=0.2, chunk_rows=5)
    narrow = case(dtype=dtype, bias=False)
    assert isinstance(narrow.student, Projected)
    assert isinstance(narrow.teacher, Projected)
    wide = replace(
        narrow,
        student=replace(
            narrow.student,
            hidden_NH=narrow.student.hidden_NH.detach().double().requires_grad_(),
            weight_VH=narrow.student.weight_VH.detach().double().requires_grad_(),
        ),
        teacher=replace(
            narrow.teacher,
            hidden_NH=narrow.teacher.hidden_NH.double(),
            weight_VH=narrow.teacher.weight_VH.double(),
        ),
    )
    out, gradients = narrow.run(loss)
    expected, expected_gradients = wide.run(loss)
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    assert out.loss.dtype == torch.float32
    assert [gradient.dtype for gradient in gradients] == [dtype, dtype]
    close(out.loss.double(), expected.loss, tolerance)
    all_close([gradient.double() for gradient in gradients], expected_gradients, tolerance)


@every_loss
def test_values_without_gradients(name: str) -> None:
    for hard_weight in (0.0, 0.3):
        loss = make(name, temperature=2.0, hard_weight=hard_weight, chunk_rows=4)
        expected, _ = case().run(loss)
        with torch.no_grad():
            out = case().output(loss)
        assert not out.loss.requires_grad
        close(out.loss, expected.loss.detach())
        close(out.divergence, expected.divergence)


@every_loss
def test_padded_heads_change_nothing(name: str) -> None:
    """Entries beyond a tokenizer's ids, masked as models mask them, are unmatched, unspelt and without mass."""
    loss = make(name, temperature=2.0, hard_weight=0.2)
    one = case().dense()
    assert isinstance(one.student, Dense)
    assert isinstance(one.teacher, Dense)
    expected, (gradient_NV,) = one.run(loss)
    minus = torch.full((len(one.student), 3), -torch.inf, dtype=torch.float64)
    student_NV = torch.cat([one.student.logits_NV.detach(), minus], 1).requires_grad_()
    minus = torch.full((len(one.teacher), 5), -torch.inf, dtype=torch.float64)
    teacher = Dense(logits_NV=torch.cat([one.teacher.logits_NV, minus], 1))
    out, (padded_NV,) = replace(one, student=Dense(logits_NV=student_NV), teacher=teacher).run(loss)
    close(out.loss, expected.loss)
    close(padded_NV[:, :-3], gradient_NV)
    assert not padded_NV[:, -3:].any()


def spans_of(counts: list[tuple[int, int]], gaps: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Spans with so many tokens on either side, each after so many rows that are in none."""
    sides: tuple[list[int], list[int]] = ([], [])
    for span, (tokens, gap) in enumerate(zip(counts, gaps, strict=True)):
        for side in (0, 1):
            sides[side].extend([-1] * gap[side] + [span] * tokens[side])
    return sides


@every_loss
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_span_structure(name: str, data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), max_size=5))
    gaps = data.draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=len(counts), max_size=len(counts))
    )
    chunk_rows, hard_weight = data.draw(st.integers(1, 6)), data.draw(st.sampled_from([0.0, 0.4]))
    one: Case = case(*spans_of(counts, gaps), seed=data.draw(st.integers(0, 99)))
    options = {"iterations": 120, "epsilon": 0.5, "k": 2} if name == "optimal_transport" else {}
    loss = make(name, hard_weight=hard_weight, chunk_rows=chunk_rows, **options)
    out, gradients = one.run(loss)
    expected = plain(loss, one)
    close(out.loss, expected)
    if expected.requires_grad:
        want = torch.autograd.grad(expected, one.leaves, allow_unused=True, materialize_grads=True)
        all_close(gradients, want)


@every_loss
def test_defaults_let_the_labels_speak(name: str) -> None:
    """Rows that no span teaches learn from their labels alone."""
    assert 0 < CROSS_LOSSES[name]().hard_weight < 1
    assert CROSS_LOSSES[name]().pairing == "cross"
    _, gradients = case().run(CROSS_LOSSES[name]())
    assert gradients[0].any(1).all()
