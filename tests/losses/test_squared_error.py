"""The losses of a regression: their laws, by being listed in NUMBER_LOSSES, against autograd in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import close

from kdlab.losses import ALL_LOSSES, LOSSES, NUMBER_LOSSES
from kdlab.losses.anneal import Anneal
from kdlab.losses.engine import LossOutput
from kdlab.losses.squared_error import SquaredError, squared_error
from kdlab.rows import Dense, Projected, Rows, TopK

every_loss = pytest.mark.parametrize("name", list(NUMBER_LOSSES))
STUDENT, TEACHER, LABELS = [1.0, -2.0, 0.5, 3.0], [0.5, -1.0, 0.5, 5.0], [2.0, -2.0, 0.0, 4.0]


def numbers(values: list[float], *, grad: bool = False) -> Dense:
    return Dense(logits_NV=torch.tensor(values, dtype=torch.float64)[:, None].requires_grad_(grad))


def run(name: str, rows: Rows, *, count: float = 7.0, **options: Any) -> LossOutput:
    loss = NUMBER_LOSSES[name](**options)
    assert isinstance(loss, SquaredError)
    return squared_error(loss, rows, count=count)


def rows_of(student: Dense, *, taught: bool = True, weights: list[float] | None = None) -> Rows:
    return Rows(
        student=student,
        teacher=numbers(TEACHER) if taught else None,
        labels_N=torch.tensor(LABELS),  # float32, as batches have them
        weight_N=None if weights is None else torch.tensor(weights),
    )


@every_loss
@pytest.mark.parametrize("hard_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0, 0.25]])
def test_value_and_gradient_are_those_of_the_formula(
    name: str, hard_weight: float, weights: list[float] | None
) -> None:
    student = numbers(STUDENT, grad=True)
    out = run(name, rows_of(student, weights=weights), hard_weight=hard_weight)
    w = weights or [1.0] * 4
    terms = list(zip(STUDENT, TEACHER, LABELS, w, strict=True))
    divergence, hard = sum((s - t) ** 2 for s, t, _, _ in terms), sum(a * (s - y) ** 2 for s, _, y, a in terms)
    assert out.loss.item() == pytest.approx(((1 - hard_weight) * divergence + hard_weight * hard) / 7.0)
    assert out.divergence.item() == pytest.approx(divergence if hard_weight < 1 else 0.0)
    assert (out.hard is None) == (hard_weight == 0)
    (gradient,) = torch.autograd.grad(out.loss, student.logits_NV)
    by_hand = [2 * ((1 - hard_weight) * (s - t) + hard_weight * a * (s - y)) / 7.0 for s, t, y, a in terms]
    close(gradient[:, 0], torch.tensor(by_hand, dtype=torch.float64))


@every_loss
def test_zero_and_stationary_when_student_is_teacher_and_right(name: str) -> None:
    student = numbers(TEACHER, grad=True)
    out = run(name, rows_of(student))
    close(out.loss, torch.tensor(0.0))
    close(torch.autograd.grad(out.loss, student.logits_NV)[0], torch.zeros(4, 1))


@every_loss
@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=4, max_size=4), w=st.floats(0, 1))
def test_never_negative_and_batches_add_up(name: str, values: list[float], w: float) -> None:
    whole = rows_of(numbers(values))
    parts = [
        Rows(
            student=Dense(logits_NV=whole.student.logits_NV[part]),  # type: ignore[union-attr]
            teacher=Dense(logits_NV=numbers(TEACHER).logits_NV[part]),
            labels_N=whole.labels_N[part],
        )
        for part in (slice(0, 1), slice(1, 4))
    ]
    out = run(name, whole, hard_weight=w)
    assert out.loss >= 0
    assert out.divergence >= 0
    close(sum(run(name, part, hard_weight=w).loss for part in parts), out.loss)  # type: ignore[arg-type]


@every_loss
def test_no_rows_give_zero_with_a_graph(name: str) -> None:
    student = Dense(logits_NV=torch.zeros(0, 1, requires_grad=True))
    rows = Rows(student=student, teacher=Dense(logits_NV=torch.zeros(0, 1)), labels_N=torch.zeros(0))
    out = run(name, rows, count=0.0, hard_weight=0.5)
    assert out.loss.item() == 0
    out.loss.backward()
    assert student.logits_NV.grad is not None


@every_loss
def test_numbers_before_their_head_and_in_half_precision(name: str) -> None:
    hidden_NH, weight_VH = torch.randn(4, 3), torch.randn(1, 3)
    side = Projected(hidden_NH=hidden_NH.requires_grad_(), weight_VH=weight_VH, bias_V=torch.ones(1))
    rows = Rows(student=side, teacher=numbers(TEACHER), labels_N=torch.tensor(LABELS))
    close(run(name, rows, hard_weight=0.5).loss, run(name, rows_of(side.dense()), hard_weight=0.5).loss, 1e-5)
    half = Rows(student=Dense(logits_NV=torch.tensor([[300.0]]).half()), teacher=None, labels_N=torch.tensor([0.0]))
    assert run(name, half, hard_weight=1.0, count=1.0).loss.item() == 90_000  # more than float16 can hold


@every_loss
def test_what_it_cannot_do_is_refused(name: str) -> None:
    for options in ({"temperature": 2.0}, {"temperature_anneal": Anneal(to=2.0)}):
        with pytest.raises(ValueError, match=r"loss\.temperature.*no temperature softens"):
            NUMBER_LOSSES[name](**options)
    with pytest.raises(ValueError, match="hard_weight=1"):
        run(name, rows_of(numbers(STUDENT), taught=False), hard_weight=0.5)
    ids_NK, zeros_N1 = torch.zeros(4, 1, dtype=torch.long), torch.zeros(4, 1)
    top = TopK(ids_NK=ids_NK, logp_NK=zeros_N1, rest_N=zeros_N1[:, 0], vocabulary=1)
    sparse = Rows(student=numbers(STUDENT), teacher=top, labels_N=torch.tensor(LABELS))
    with pytest.raises(ValueError, match="loss=squared_error"):
        run(name, sparse)


@every_loss
def test_it_is_a_loss_like_others_but_for_the_table(name: str) -> None:
    assert name in ALL_LOSSES
    assert name not in LOSSES
    moving = NUMBER_LOSSES[name](hard_weight=0.25, hard_weight_anneal=Anneal(to=0.75))
    assert moving.at(0.5) == NUMBER_LOSSES[name](hard_weight=0.5)
    assert moving.asks_teacher
    assert not NUMBER_LOSSES[name](hard_weight=1.0).asks_teacher
    assert moving.pairing == "strict"
