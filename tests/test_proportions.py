"""Shares of what was right, and whether two differ, against published numbers."""

from __future__ import annotations

import pytest

from kdlab.proportions import Accuracy, between

# Newcombe (1998), "Interval estimation for the difference between independent proportions", table II, method 10.
PUBLISHED = [
    ((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090), ((10, 10), (0, 20), 0.6791, 1.0),
    ((5, 56), (0, 29), -0.0381, 0.1926), ((0, 10), (0, 20), -0.1611, 0.2775),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b", "low", "high"), PUBLISHED)
def test_the_interval_of_a_difference_is_the_published_one(a, b, low: float, high: float) -> None:
    assert between(Accuracy(*a), Accuracy(*b)) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_the_interval_turns_round_with_its_sides() -> None:
    low, high = between(Accuracy(40, 100), Accuracy(60, 120))
    assert between(Accuracy(60, 120), Accuracy(40, 100)) == (pytest.approx(-high), pytest.approx(-low))
