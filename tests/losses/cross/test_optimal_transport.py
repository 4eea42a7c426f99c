"""OptimalTransport: costs and small problems worked out by hand, and what its options do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from cross_cases import case, close, make
from test_uld import told

from kdlab.losses.cross.engine import cross_loss
from kdlab.losses.cross.optimal_transport import OptimalTransport
from kdlab.losses.cross.transport import Measure, costs
from kdlab.rows import Dense
from kdlab.text.vocabulary import spelling_table


def measure(strings: list[bytes]) -> Measure:
    table = spelling_table([string or None for string in strings])
    share = torch.full((1, len(strings) + 1), 1 / (len(strings) + 1))
    return Measure(table.bytes_VL[None], table.lengths_V[None], share)


def test_costs_by_hand() -> None:
    ours, theirs = measure([b"run", b"runs", b" run", b""]), measure([b"runner", b"run", b"", b"\xc3\xa9", b"u"])
    expected = [
        [1 / 2, 0, 1, 1, 1, 1],
        [1 / 2, 1 / 4, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1],
        [1, 1, 0, 1, 1, 1],
        [1, 1, 1, 1, 1, 0],
    ]
    close(costs(ours, theirs)[0], torch.tensor(expected), 1e-6)
    close(costs(theirs, ours)[0].T, torch.tensor(expected), 1e-6)


def test_three_tokens_by_hand() -> None:
    """With little entropy .4 of mass goes from "a" to "ab", which costs 1/2; nothing else moves."""
    strings = [b"a", b"ab", b"x"]
    one = told([0.6, 0.3, 0.1], [0.2, 0.7, 0.1], strings, strings)
    loss = make("optimal_transport", epsilon=0.05, iterations=1000)
    close(one.output(loss, count=1).loss, torch.tensor(0.2), 0.02)


def test_near_strings_are_near() -> None:
    """Unlike any divergence over ids: the same mass, misplaced, costs less on a longer common beginning."""
    teacher = [b"house", b"x"]
    values = [
        told([0.9, 0.1], [0.9, 0.1], [string, b"x"], teacher).output(make("optimal_transport"), count=1).loss.item()
        for string in (b"house", b"houses", b"home", b"mouse")
    ]
    assert values == sorted(values)
    assert values[0] == pytest.approx(0, abs=1e-9)
    assert len({round(value, 3) for value in values}) == 4


def test_a_token_outside_the_students_likeliest_is_learnt() -> None:
    """The teacher's likeliest tokens are looked up on the student's side, so that they get mass from nothing."""
    strings = [b"a", b"b", b"c", b"d"]
    teacher = Dense(logits_NV=torch.tensor([[0.001, 0.001, 0.001, 0.997]]).log())
    logits_NV = torch.tensor([[3.0, 2.0, 1.0, 0.0]], requires_grad=True)
    optimizer = torch.optim.SGD([logits_NV], lr=4.0)
    base = case([0], [0], student_strings=strings, teacher_strings=strings)
    for _ in range(30):
        optimizer.zero_grad()
        one = replace(base, student=Dense(logits_NV=logits_NV), teacher=teacher)
        one.output(make("optimal_transport", k=1), count=1).loss.backward()
        optimizer.step()
    assert logits_NV.softmax(-1)[0, 3] > 0.9


def test_the_default_has_settled() -> None:
    for seed in range(2):
        one = case(seed=seed, sharpness=2.0)
        default, settled = (make("optimal_transport", iterations=i) for i in (OptimalTransport().iterations, 1000))
        (out, gradients), (expected, expected_gradients) = one.run(default), one.run(settled)
        close(out.loss, expected.loss, 1e-3)
        for gradient, other in zip(gradients, expected_gradients, strict=True):
            close(gradient, other, 2e-3)


def test_more_tokens_than_the_vocabularies_have() -> None:
    """Then the masses are whole, and nothing is left for the rest."""
    loss, more = (make("optimal_transport", k=k) for k in (15, 1000))
    close(case().output(loss).loss, case().output(more).loss)


def test_bytes_are_needed() -> None:
    one = case()
    bare = replace(one.matched, student_spelling=None)
    with pytest.raises(AssertionError, match="bytes of the student"):
        cross_loss(make("optimal_transport"), one.rows(), matched=bare, count=1)


@pytest.mark.parametrize(
    ("option", "value"), [("k", 0), ("iterations", 0), ("epsilon", 0.01), ("epsilon", float("inf"))]
)
def test_bad_options_are_refused(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^loss\.{option}={value}: must be"):
        OptimalTransport(**{option: value})  # type: ignore[arg-type]
