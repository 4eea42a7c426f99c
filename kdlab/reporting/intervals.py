"""Mean, spread and 95 % interval of a few repeats, and whether two settings differ, by Student's t.

Repeats over the folds of one dataset share training rows: they are not independent, and `overlap` corrects for it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Interval:
    """`n` repeats: their mean, sample standard deviation (n - 1 below), and half the width of the interval of the mean.
    The last two are None where n = 1."""

    n: int
    mean: float
    sd: float | None
    half_width: float | None


def interval(values: Sequence[float], *, confidence: float = 0.95, overlap: float = 0.0) -> Interval:
    """mean ± t(n - 1) · sd · √(1/n + overlap): with `overlap` 0 it holds the true mean in `confidence` of all cases
    where repeats are normal and independent.

    `overlap` is n_test / n_train of one fold, 1/(k - 1) for k folds: the corrected resampled interval (Nadeau and
    Bengio, 2003, "Inference for the generalization error"). Two folds train on mostly the same rows, so their
    results are correlated, sd² / n is too small a variance of their mean, and intervals of it are too narrow. They take
    the correlation to be n_test / (n_test + n_train), which gives (1/n + n_test / n_train) · sd².
    """
    assert values
    n, mean = len(values), statistics.fmean(values)
    if n == 1:
        return Interval(n=1, mean=mean, sd=None, half_width=None)
    if not all(math.isfinite(value) for value in values):
        return Interval(n=n, mean=mean, sd=math.nan, half_width=math.nan)
    sd = statistics.stdev(values)
    error = _error(sd, n, overlap)
    return Interval(n=n, mean=mean, sd=sd, half_width=t_quantile(n - 1, confidence=confidence) * error)


def _error(sd: float, n: int, overlap: float) -> float:
    """The standard error of the mean of n repeats."""
    assert overlap >= 0
    return sd * math.sqrt(1 / n + overlap) if overlap else sd / math.sqrt(n)


@dataclass(frozen=True, kw_only=True)
class Paired:
    """`n` repeats of two settings under the same seeds or folds: the mean of first - second, half the width of its
    interval, and `p`, how often a mean this far from 0 or farther would come up if the two did not differ. The last two
    are None where n = 1, or where all differences are the same: then the seeds are no independent repeats."""

    n: int
    difference: float
    half_width: float | None
    p: float | None


def paired(
    first: Sequence[float], second: Sequence[float], *, confidence: float = 0.95, overlap: float = 0.0
) -> Paired:
    """The paired t-test, two-sided (Student, 1908): t = mean √n / sd of the differences, n - 1 degrees of freedom.

    With `overlap`, as of `interval`, the corrected resampled t-test (Nadeau and Bengio, 2003):
    t = mean / (sd √(1/n + n_test / n_train)). The plain test over folds finds differences that are not there far more
    often than its p says (Dietterich, 1998); this one about as often.
    """
    differences = [a - b for a, b in zip(first, second, strict=True)]
    found = interval(differences, confidence=confidence, overlap=overlap)
    if found.sd is None or found.sd == 0:
        return Paired(n=found.n, difference=found.mean, half_width=None, p=None)
    if not math.isfinite(found.sd):
        return Paired(n=found.n, difference=found.mean, half_width=math.nan, p=math.nan)
    t = (
        abs(found.mean) / _error(found.sd, found.n, overlap)
        if overlap
        else abs(found.mean) * math.sqrt(found.n) / found.sd
    )
    p = max(0.0, 1 - _within(t, found.n - 1))
    return Paired(n=found.n, difference=found.mean, half_width=found.half_width, p=p)


def t_quantile(freedom: int, *, confidence: float = 0.95) -> float:
    """The t with P(|T| <= t) = `confidence` for `freedom` degrees of freedom (two-sided), by bisection."""
    assert freedom >= 1
    assert 0 < confidence < 1
    low, high = 0.0, 1.0
    while _within(high, freedom) < confidence:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return (low + high) / 2


def _within(t: float, freedom: int) -> float:
    """P(|T| <= t), exact for whole degrees of freedom (Abramowitz and Stegun, 1964, 26.7.3 and 26.7.4)."""
    theta = math.atan(t / math.sqrt(freedom))
    cosine, sine = math.cos(theta), math.sin(theta)
    if freedom % 2 == 0:
        term, total = 1.0, 1.0
        for k in range(2, freedom, 2):
            term *= (k - 1) / k * cosine * cosine
            total += term
        return sine * total
    if freedom == 1:
        return 2 / math.pi * theta
    term, total = cosine, cosine
    for k in range(3, freedom, 2):
        term *= (k - 1) / k * cosine * cosine
        total += term
    return 2 / math.pi * (theta + sine * total)
