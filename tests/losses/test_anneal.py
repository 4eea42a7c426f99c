"""Annealed options: where they are at each moment of training, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlab.losses import ALL_LOSSES, LOSSES, NUMBER_LOSSES
from kdlab.losses.anneal import SHAPES, Anneal


@pytest.mark.parametrize(
    ("shape", "progress", "value"),
    [
        ("linear", 0.0, 4.0),
        ("linear", 0.2, 4.0),
        ("linear", 0.4, 2.5),
        ("linear", 0.6, 1.0),
        ("linear", 1.0, 1.0),
        ("cosine", 0.3, 4.0 - 3.0 * (1 - 2**-0.5) / 2),
        ("cosine", 0.4, 2.5),
    ],
)
def test_by_hand(shape, progress, value):
    assert Anneal(to=1.0, shape=shape, start=0.2, end=0.6).at(4.0, progress) == pytest.approx(value, abs=1e-12)


@given(
    value=st.floats(0.1, 10), to=st.floats(0.1, 10), shape=st.sampled_from(SHAPES), a=st.floats(0, 1), b=st.floats(0, 1)
)
def test_it_never_turns_back_nor_leaves_its_ends(value, to, shape, a, b):
    anneal = Anneal(to=to, shape=shape)
    early, late = (anneal.at(value, progress) for progress in sorted((a, b)))
    low, high = sorted((value, to))
    assert low - 1e-9 <= early <= high + 1e-9
    assert (late - early) * (to - value) >= -1e-9


@pytest.mark.parametrize("name", sorted(set(ALL_LOSSES) - {"hard", *NUMBER_LOSSES}))
def test_a_loss_is_the_plain_one_of_that_moment(name):
    moving = ALL_LOSSES[name](
        temperature=4.0, hard_weight=0.25, temperature_anneal=Anneal(to=2.0), hard_weight_anneal=Anneal(to=0.75)
    )
    assert moving.at(0.5) == ALL_LOSSES[name](temperature=3.0, hard_weight=0.5)
    assert moving.asks_teacher
    still = ALL_LOSSES[name]()
    assert still.at(0.5) is still


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shape": "square"}, "anneal.shape=square"),
        ({"start": 0.5, "end": 0.5}, "anneal.start=0.5"),
        ({"end": 1.5}, "anneal.end=1.5"),
    ],
)
def test_an_impossible_anneal_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Anneal(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature_anneal": Anneal(to=0.0)}, "loss.temperature_anneal.to=0.0"),
        ({"hard_weight_anneal": Anneal(to=1.1)}, "loss.hard_weight_anneal.to=1.1"),
        ({"compile": True, "temperature_anneal": Anneal(to=1.0)}, "loss.compile=true"),
    ],
)
def test_an_impossible_end_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        LOSSES["forward_kl"](**options)
