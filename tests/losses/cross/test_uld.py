"""ULD and its hybrid: cases worked out by hand, what `top` leaves out, and the options."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from cross_cases import Case, case, close, make
from hypothesis import given
from hypothesis import strategies as st

from kdlab.losses.cross.uld import ULD, ULDHybrid, sorted_distance
from kdlab.rows import Dense


def exact(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def told(
    q: list[float], p: list[float], student: list[bytes], teacher: list[bytes], *, q_label: int = 0, p_label: int = 0
) -> Case:
    """One span of one token, with these probabilities on either side."""
    sides = [Dense(logits_NV=exact([side]).log()) for side in (q, p)]
    one = case([0], [0], student_strings=student, teacher_strings=teacher)
    labels = [torch.tensor([label]) for label in (q_label, p_label)]
    return replace(one, student=sides[0], teacher=sides[1], labels_N=labels[0], teacher_labels_M=labels[1])


def test_three_tokens_against_four_by_hand() -> None:
    one = told([0.2, 0.7, 0.1], [0.05, 0.3, 0.15, 0.5], [b"a", b"b", b"c"], [b"d", b"e", b"f", b"g"])
    for name in ("uld", "uld_hybrid"):  # nothing is matched: the hybrid is ULD
        close(one.output(make(name), count=1).loss, exact(0.2 + 0.1 + 0.05 + 0.05))
    close(one.output(make("uld", top=1), count=1).loss, exact(0.2 + 0.2))
    close(one.output(make("uld", top=3), count=1).loss, exact(0.2 + 0.1 + 0.05 + 0.05))


def test_hybrid_by_hand() -> None:
    one = told([0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [b"a", b"b", b"x"], [b"b", b"a", b"y"])
    matched, unmatched = 0.0334717, 0.1  # JSD of (.6, .1, .3) and (.5, .3, .2); |.2 - .3|
    for weight, expected in (
        (1.0, matched),
        (0.0, unmatched),
        (0.25, 0.25 * matched + 0.75 * unmatched),
        (None, 0.7 * matched + 0.3 * unmatched),
    ):
        close(one.output(make("uld_hybrid", matched_weight=weight), count=1).loss, exact(expected), 1e-6)


def test_hybrid_where_all_is_matched_is_jensen_shannon() -> None:
    strings = [b"a", b"b", b"c"]
    one = told([0.5, 0.3, 0.2], [0.1, 0.6, 0.3], strings, strings[::-1])
    q, p = exact([0.5, 0.3, 0.2]), exact([0.3, 0.6, 0.1])
    middle = (q + p) / 2
    expected = ((q * (q / middle).log()).sum() + (p * (p / middle).log()).sum()) / 2
    close(one.output(make("uld_hybrid"), count=1).loss, expected)


probabilities = st.lists(st.floats(0.001, 1.0), min_size=1, max_size=9)


@given(q=probabilities, p=probabilities, top=st.integers(1, 10))
def test_top_falls_short_by_no_more_than_it_says(q: list[float], p: list[float], top: int) -> None:
    q_V, p_W = (torch.tensor([side], dtype=torch.float64) for side in (q, p))
    q_V, p_W = q_V / q_V.sum(), p_W / p_W.sum()
    whole, short = sorted_distance(q_V, p_W, None).item(), sorted_distance(q_V, p_W, top).item()
    beyond = [1 - side.topk(min(top, side.shape[1])).values.sum().item() for side in (q_V, p_W)]
    assert -1e-12 <= whole - short <= 2 * min(beyond) + 1e-12
    assert 0 <= whole <= 2 + 1e-12


def test_order_of_a_vocabulary_does_not_matter() -> None:
    one = case()
    turned = replace(one, teacher=replace(one.teacher, weight_VH=one.teacher.weight_VH.flip(0)))  # type: ignore[call-arg, union-attr]
    close(one.output(make("uld")).loss, turned.output(make("uld")).loss)
    assert not torch.isclose(one.output(make("uld_hybrid")).loss, turned.output(make("uld_hybrid")).loss)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^loss\.top=0: .*null"):
        ULD(top=0)
    for weight in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"^loss\.matched_weight="):
            ULDHybrid(matched_weight=weight)
    with pytest.raises(ValueError, match=r"^loss\.temperature="):
        ULD(temperature=0.0)
