"""The formulas of the inner terms, against numbers worked out by hand and plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.nn.functional import cosine_similarity

from kdlab.losses.inner_terms import attention_distance, hidden_distance, relation_distance


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def causal(time):
    return torch.ones(1, time, time, dtype=torch.bool).tril()


def everywhere(rows, time):
    return torch.ones(rows, time, dtype=torch.bool)


def test_hidden_by_hand():
    student, teacher = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 4.0], [-4.0, 3.0]])
    assert hidden_distance(student, teacher, "mse").tolist() == [2.0, 25.0]
    expected = [1 - 9 / math.sqrt(5 * 17), 1.0]
    assert hidden_distance(student, teacher, "cosine").tolist() == pytest.approx(expected)
    wide, other = drawn(7, 5), drawn(7, 5, seed=1)
    torch.testing.assert_close(hidden_distance(wide, other, "cosine"), 1 - cosine_similarity(wide, other, dim=-1))


def test_a_hidden_state_of_zeros_is_finite():
    zeros = torch.zeros(1, 3, requires_grad=True)
    value = hidden_distance(zeros, torch.ones(1, 3), "cosine")
    value.sum().backward()
    assert value.item() == 1.0
    assert zeros.grad is not None
    assert zeros.grad.isfinite().all()


def test_attention_by_hand():
    teacher = torch.tensor([[[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]])  # one query, two heads, three keys
    student = torch.tensor([[[0.5, 0.5, 0.0], [0.25, 0.75, 0.0]]])
    kl = (math.log(2) + 0.5 * math.log(2) + 0.5 * math.log(2 / 3)) / 2
    assert attention_distance(student, teacher, "kl").tolist() == pytest.approx([kl])
    assert attention_distance(student, teacher, "mse").tolist() == pytest.approx([(0.5 + 0.125) / 2])
    one_head = torch.tensor([[[0.75, 0.25, 0.0]]])  # the mean of the teacher's heads
    assert attention_distance(one_head, teacher, "kl").tolist() == pytest.approx([0.0], abs=1e-7)
    assert attention_distance(teacher, one_head, "mse").tolist() == pytest.approx([0.0], abs=1e-7)


def test_a_key_that_only_the_teacher_sees_costs_much_and_no_infinity():
    student = torch.tensor([[[1.0, 0.0]]], requires_grad=True)
    value = attention_distance(student, torch.tensor([[[0.5, 0.5]]]), "kl")
    value.sum().backward()
    assert 20 < value.item() < 50
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_relation_is_the_plain_loop():
    student, teacher = drawn(2, 5, 12), drawn(2, 5, 8, seed=1)
    on = everywhere(2, 5)
    on[1, 3:] = False
    seen = causal(5) & on[:, None, :] | torch.eye(5, dtype=torch.bool)
    found = relation_distance(student, teacher, heads=4, seen_BTT=seen, on_BT=on)
    expected = []
    for b in range(2):
        for t in range(5 if b == 0 else 3):
            total = 0.0
            for head in range(4):
                logs = []
                for side in (teacher, student):
                    width = side.shape[-1] // 4
                    a = side[b, :, head * width : (head + 1) * width]
                    logs.append((a[: t + 1] @ a[t] / math.sqrt(width)).log_softmax(0))
                p, q = logs
                total += float((p.exp() * (p - q)).sum())
            expected.append(total / 4)
    assert found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("distance", ["mse", "cosine"])
def test_hidden_gradient(distance):
    student, teacher = drawn(3, 4).requires_grad_(), drawn(3, 4, seed=1)
    assert gradcheck(lambda s: hidden_distance(s, teacher, distance), (student,))


@pytest.mark.parametrize("distance", ["kl", "mse"])
def test_attention_gradient(distance):
    scores, teacher = drawn(3, 2, 4).requires_grad_(), drawn(3, 2, 4, seed=1).softmax(-1)
    assert gradcheck(lambda s: attention_distance(s.softmax(-1), teacher, distance), (scores,))


def test_relation_gradient():
    student, teacher = drawn(1, 4, 6).requires_grad_(), drawn(1, 4, 4, seed=1)
    on = everywhere(1, 4)
    on[0, 3] = False
    assert gradcheck(lambda s: relation_distance(s, teacher, heads=2, seen_BTT=causal(4), on_BT=on), (student,))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    heads=st.sampled_from([1, 2, 3]),
    size=st.floats(0.01, 30),
    distance=st.sampled_from(["kl", "mse"]),
)
def test_nothing_is_negative_and_equals_cost_nothing(seed, heads, size, distance):
    ours, theirs = size * drawn(1, 5, 6, seed=seed), size * drawn(1, 5, 6, seed=seed + 1)
    on, seen = everywhere(1, 5), causal(5)
    maps = [(side.reshape(5, 3, 2)).softmax(-1) for side in (ours, theirs)]
    for value in (
        hidden_distance(ours[0], theirs[0], "mse" if distance == "mse" else "cosine"),
        attention_distance(*maps, distance),
        relation_distance(ours, theirs, heads=heads, seen_BTT=seen, on_BT=on),
    ):
        assert value.min() >= -1e-12
        assert value.isfinite().all()
    for value in (
        hidden_distance(ours[0], ours[0], "mse" if distance == "mse" else "cosine"),
        attention_distance(maps[0], maps[0], distance),
        relation_distance(ours, ours, heads=heads, seen_BTT=seen, on_BT=on),
    ):
        assert value.abs().max() <= 1e-12


def test_padding_may_hold_anything():
    student = drawn(1, 4, 6).requires_grad_()
    on = everywhere(1, 4)
    on[0, 2:] = False
    seen = causal(4) & on[:, None, :] | torch.eye(4, dtype=torch.bool)
    teacher, loud = drawn(1, 4, 6, seed=1), drawn(1, 4, 6, seed=1)
    loud[0, 2:] = 1e6
    values = []
    for side in (teacher, loud):
        value = relation_distance(student, side, heads=2, seen_BTT=seen, on_BT=on).sum()
        (gradient,) = torch.autograd.grad(value, student)
        assert gradient.isfinite().all()
        assert gradient[0, 2:].count_nonzero() == 0
        values.append(value.item())
    assert values[0] == values[1]
