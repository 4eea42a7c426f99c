"""How many were right, how sure that is, and whether two differ. Importable without torch; scipy does the statistics.

told = Accuracy(161, 1319)
told.share, told.interval()                # 0.12206..., (0.1055, 0.1409)
mcnemar([True, True], [False, True]).p     # over the same questions, in the same order
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Accuracy:
    """`correct` of `count`. The share is always computed from the two, and kept nowhere beside them."""

    correct: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.correct <= self.count:
            raise ValueError(f"{self.correct} right of {self.count}: no such accuracy")

    @property
    def share(self) -> float:
        """`correct` / `count`, from 0 to 1; nan of none."""
        return self.correct / self.count if self.count else math.nan

    def interval(self, *, confidence: float = 0.95) -> tuple[float, float]:
        """Holds the true share in about `confidence` of all cases (Wilson, 1927), for answers that are independent:
        one a question. Several draws a question: `over_questions`."""
        from scipy.stats import binomtest

        if not self.count:
            return math.nan, math.nan
        found = binomtest(self.correct, self.count).proportion_ci(confidence_level=confidence, method="wilson")
        return float(found.low), float(found.high)


def over_questions(shares: Sequence[float], *, confidence: float = 0.95) -> tuple[float, tuple[float, float]]:
    """The mean over questions of the share of each question's draws that were right, and its interval.

    Draws of one question are not independent, questions are: mean ± t(n - 1) · sd / √n over the n questions, within 0
    to 1. Where all shares are the same, which gives t no width, Wilson's of n answers.
    """
    from scipy.stats import t

    assert shares
    n, mean = len(shares), statistics.fmean(shares)
    sd = statistics.stdev(shares) if n > 1 else 0.0
    if not sd:
        return mean, Accuracy(round(mean * n), n).interval(confidence=confidence)
    half = float(t.ppf((1 + confidence) / 2, n - 1)) * sd / math.sqrt(n)
    return mean, (max(0.0, mean - half), min(1.0, mean + half))


def between(a: Accuracy, b: Accuracy, *, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a's share less b's, from their counts alone (Newcombe, 1998, method 10): with d = p_a - p_b and
    Wilson's limits l, u of each, d - √((p_a - l_a)² + (u_b - p_b)²) to d + √((u_a - p_a)² + (p_b - l_b)²).

    It takes the two as independent. Of two that answered the same questions it is too wide rather than too narrow,
    since they tend to be right on the same ones; where both answers to each are known, `mcnemar` says more.
    """
    (low_a, high_a), (low_b, high_b) = a.interval(confidence=confidence), b.interval(confidence=confidence)
    difference = a.share - b.share
    below, above = math.hypot(a.share - low_a, high_b - b.share), math.hypot(high_a - a.share, b.share - low_b)
    return difference - below, difference + above


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Two that answered the same `count` questions: `first` only the first got right, `second` only the second.

    `p`: how often the two counts would be this far apart or farther if neither were better; 1 where none differ.
    """

    count: int
    both: int
    first: int
    second: int
    p: float

    @property
    def difference(self) -> float:
        """The first's share of right answers less the second's."""
        return (self.first - self.second) / self.count if self.count else math.nan


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> McNemar:
    """The exact two-sided test of McNemar (1947): questions that one alone got right fall to either with 1/2."""
    from scipy.stats import binomtest

    pairs = list(zip(a, b, strict=True))
    first, second = sum(x and not y for x, y in pairs), sum(y and not x for x, y in pairs)
    p = float(binomtest(first, first + second).pvalue) if first + second else 1.0
    return McNemar(count=len(pairs), both=sum(x and y for x, y in pairs), first=first, second=second, p=p)
