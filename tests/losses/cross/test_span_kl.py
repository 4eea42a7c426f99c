"""SpanKL: cases worked out by hand, the longer spans, and the ends where probabilities are 0 and 1."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from cross_cases import all_close, case, close, make, plain
from hypothesis import given
from hypothesis import strategies as st

from kdlab.losses.cross.coarse import log1mexp
from kdlab.losses.cross.span_kl import SpanKL
from kdlab.rows import Dense


def dense(rows: list[list[float]]) -> Dense:
    return Dense(logits_NV=torch.tensor(rows, dtype=torch.float64).log())


def test_one_token_on_both_sides_by_hand() -> None:
    """KL of (.6, .1, .3) to (.5, .3, .2): a, b, and the rest."""
    one = replace(
        case([0], [0], student_strings=[b"a", b"b", b"x"], teacher_strings=[b"b", b"a", b"y", b"z"]),
        student=dense([[0.5, 0.3, 0.2]]),
        teacher=dense([[0.1, 0.6, 0.25, 0.05]]),
    )
    close(one.output(make("span_kl"), count=1).loss, torch.tensor(0.121172), 1e-6)


def test_a_student_without_other_entries_by_hand() -> None:
    """P KL(p/P || q) with P = .7, p/P = (6/7, 1/7) and q = (.5, .5)."""
    one = replace(
        case([0], [0], student_strings=[b"a", b"b"], teacher_strings=[b"b", b"a", b"y"]),
        student=dense([[0.5, 0.5]]),
        teacher=dense([[0.1, 0.6, 0.3]]),
    )
    expected = 0.6 * torch.tensor(0.6 / 0.7 / 0.5).log() + 0.1 * torch.tensor(0.1 / 0.7 / 0.5).log()
    close(one.output(make("span_kl"), count=1).loss, expected, 1e-6)
    close(one.output(make("span_kl"), count=1).loss, plain(make("span_kl"), one, count=1))


def test_two_tokens_against_one_by_hand() -> None:
    """KL(Bernoulli(.5) || Bernoulli(.5 * .4)) = log(25 / 16) / 2."""
    one = replace(
        case([0, 0], [0], student_strings=[b"a", b"b", b"x"], teacher_strings=[b"ab", b"a", b"y"]),
        student=dense([[0.5, 0.3, 0.2], [0.1, 0.4, 0.5]]),
        teacher=dense([[0.5, 0.2, 0.3]]),
        labels_N=torch.tensor([0, 1]),
        teacher_labels_M=torch.tensor([0]),
    )
    close(one.output(make("span_kl"), count=1).loss, torch.tensor(25 / 16, dtype=torch.float64).log() / 2)


@pytest.mark.parametrize("lead", [20.0, 60.0, 400.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_certain_and_impossible_spans_stay_finite(lead: float, dtype: torch.dtype) -> None:
    """No logit gets more gradient than a hard label would give it, and none of it is NaN."""
    for ours in (lead, -lead):
        for theirs in (lead, -lead, 0.0):
            one = case([0, 0], [0, 0, 0]).dense()
            student_NV, teacher_MW = torch.zeros(2, 13, dtype=dtype), torch.zeros(3, 15, dtype=dtype)
            student_NV[range(2), one.labels_N] = ours
            teacher_MW[range(3), one.teacher_labels_M] = theirs
            sure = replace(
                one, student=Dense(logits_NV=student_NV.requires_grad_()), teacher=Dense(logits_NV=teacher_MW)
            )
            out, (gradient_NV,) = sure.run(make("span_kl"), count=1)
            assert torch.isfinite(out.loss)
            assert out.loss >= 0
            assert torch.isfinite(gradient_NV).all()
            assert gradient_NV.abs().max() <= 1
            if ours == theirs:
                close(out.loss, torch.tensor(0.0), 1e-6)


def test_slopes_keep_their_precision_where_probabilities_are_near_one() -> None:
    """float32 agrees with float64 although 1 - q is far below float32's rounding."""
    one = case([0, 0], [0]).dense()
    assert isinstance(one.student, Dense)
    logits_NV = one.student.logits_NV.detach().clone()
    logits_NV[range(2), one.labels_N] += 40.0
    gradients = []
    for dtype in (torch.float64, torch.float32):
        student = Dense(logits_NV=logits_NV.to(dtype).requires_grad_())
        gradients.append(replace(one, student=student).run(make("span_kl"), count=1)[1][0].double())
    assert gradients[0].abs().max() > 0.1  # the teacher is not sure, so this student is far too sure
    all_close(gradients[1:], gradients[:1], 1e-4)


@given(x=st.floats(-700, -1e-300))
def test_log1mexp_at_either_end(x: float) -> None:
    leaf = torch.tensor([x], dtype=torch.float64, requires_grad=True)
    value = log1mexp(leaf)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    assert torch.isfinite(value).all()
    close(value.exp(), -torch.expm1(leaf.detach()), 1e-12)
    close(gradient * torch.expm1(-leaf.detach()), -torch.ones(1), 1e-9)


def test_longer_spans_teach_all_their_rows() -> None:
    _, gradients = case([0, 0, 0], [0]).run(make("span_kl"))
    assert gradients[0].any(1).all()


def test_options() -> None:
    assert SpanKL().temperature == 1
    with pytest.raises(ValueError, match=r"^loss\.hard_weight="):
        SpanKL(hard_weight=1.5)
