"""Student's t against published tables, intervals against a worked example and against repetition."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from kdlab.reporting.intervals import interval, paired, t_quantile

# Two-sided, as in every printed table (for example NIST/SEMATECH e-Handbook, 1.3.6.7.2).
PUBLISHED = [
    (1, 0.95, 12.706), (2, 0.95, 4.303), (3, 0.95, 3.182), (4, 0.95, 2.776), (5, 0.95, 2.571), (9, 0.95, 2.262),
    (10, 0.95, 2.228), (29, 0.95, 2.045), (30, 0.95, 2.042), (60, 0.95, 2.000), (100, 0.95, 1.984),
    (1, 0.90, 6.314), (2, 0.90, 2.920), (10, 0.90, 1.812), (1, 0.99, 63.657), (2, 0.99, 9.925), (5, 0.99, 4.032),
    (20, 0.99, 2.845),
]  # fmt: skip


@pytest.mark.parametrize(("freedom", "confidence", "published"), PUBLISHED)
def test_quantiles_equal_the_published_ones(freedom: int, confidence: float, published: float) -> None:
    assert round(t_quantile(freedom, confidence=confidence), 3) == published


def test_many_degrees_of_freedom_approach_the_normal() -> None:
    assert t_quantile(20_000) == pytest.approx(1.959964, abs=2e-4)


def test_a_worked_example() -> None:
    found = interval([2.0, 4.0, 6.0])
    assert (found.n, found.mean, found.sd) == (3, 4.0, 2.0)
    assert found.half_width == pytest.approx(4.302653 * 2.0 / math.sqrt(3), rel=1e-6)


def test_one_repeat_has_no_spread() -> None:
    found = interval([3.5])
    assert (found.n, found.mean, found.sd, found.half_width) == (1, 3.5, None, None)


def test_an_infinite_repeat_has_no_known_spread() -> None:
    found = interval([1.0, math.inf])
    assert found.mean == math.inf
    assert math.isnan(found.sd)


def test_ninety_five_of_a_hundred_intervals_hold_the_true_mean() -> None:
    draw = random.Random(0)
    held = 0
    for _ in range(4000):
        found = interval([draw.gauss(5.0, 2.0) for _ in range(4)])
        held += abs(found.mean - 5.0) <= found.half_width
    assert held / 4000 == pytest.approx(0.95, abs=0.01)


def test_a_paired_test_gives_students_own_answer() -> None:
    # Extra hours of sleep by two drugs (Student, 1908): t = -4.0621, 9 degrees of freedom, p = 0.002833.
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = paired(first, second)
    assert (found.n, round(found.difference, 6)) == (10, -1.58)
    assert found.p == pytest.approx(0.002833, abs=1e-6)
    assert found.difference + found.half_width == pytest.approx(-0.7001142, abs=1e-6)


def test_pairing_takes_the_spread_over_seeds_out() -> None:
    first = [1.0, 5.0, 9.0]
    found = paired(first, [value + 1 + small for value, small in zip(first, [0.01, -0.01, 0.0], strict=True)])
    assert found.p < 0.001
    assert found.half_width < 0.05


@pytest.mark.parametrize(("first", "second"), [([1.0], [2.0]), ([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])])
def test_what_does_not_vary_proves_nothing(first: list[float], second: list[float]) -> None:
    found = paired(first, second)
    assert (found.difference, found.half_width, found.p) == (-1.0, None, None)


def test_five_of_a_hundred_equal_settings_seem_to_differ() -> None:
    draw = random.Random(0)
    seeming = sum(paired(*([draw.gauss(0, 1) for _ in range(4)] for _ in range(2))).p < 0.05 for _ in range(4000))
    assert seeming / 4000 == pytest.approx(0.05, abs=0.01)


def test_folds_that_share_rows_have_a_wider_interval_and_a_larger_p() -> None:
    # By hand: the differences 1, 2, 3 have mean 2 and sd 1; with n_test / n_train = 1/9 the standard error is
    # √(1/3 + 1/9) = 2/3, so t = 3, and with 2 degrees of freedom P(|T| <= t) = t / √(2 + t²) = 3 / √11.
    found = paired([2.0, 4.0, 6.0], [1.0, 2.0, 3.0], overlap=1 / 9)
    assert found.difference == 2.0
    assert found.p == pytest.approx(1 - 3 / math.sqrt(11))
    assert found.half_width == pytest.approx(4.302653 * 2 / 3, rel=1e-6)
    assert interval([1.0, 2.0, 3.0], overlap=1 / 9).half_width == pytest.approx(4.302653 * 2 / 3, rel=1e-6)
    plain = paired([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert plain.p == pytest.approx(1 - math.sqrt(12 / 14)), "t = 2 √3"
    assert plain == paired([2.0, 4.0, 6.0], [1.0, 2.0, 3.0], overlap=0.0)


def test_the_corrected_test_over_folds_keeps_its_promise_where_the_plain_one_does_not() -> None:
    """Two learners that are equally good: the nearest neighbour by one input or by another, which are exchangeable."""
    draw = np.random.default_rng(0)
    rows, folds, datasets, found = 60, 5, 500, {0.0: 0, 1 / 4: 0}
    fold_N = np.arange(rows) % folds
    for _ in range(datasets):
        x_NA = draw.normal(size=(rows, 2))
        right_N = x_NA.sum(1) + draw.normal(size=rows) > 0
        accuracies: list[list[float]] = [[], []]
        for fold in range(folds):
            train, test = fold_N != fold, fold_N == fold
            for learner, of_fold in enumerate(accuracies):
                near = np.abs(x_NA[test, None, learner] - x_NA[train, learner]).argmin(1)
                of_fold.append(float((right_N[train][near] == right_N[test]).mean()))
        for overlap in found:
            p = paired(*accuracies, overlap=overlap).p
            found[overlap] += p is not None and p < 0.05
    assert found[0.0] / datasets > 0.09, "it says 5 %"
    assert found[1 / 4] / datasets < 0.07
