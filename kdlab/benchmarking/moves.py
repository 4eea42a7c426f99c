"""How far a measure moved over the same items, before and after: Student's paired t-test. Torch-free.

move([0.5, 1.0, -0.5])   # {"difference": 0.33, "interval": [-1.56, 2.23], "p": 0.53, "count": 3}
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

Move = dict[str, Any]
"""`difference`: the mean of after - before over `count` items. `interval` holds the mean of all such items in about
95 % of cases, and `p` is how often a mean this far from 0 or farther would come up if nothing had changed (Student,
1908); both are None of one item, or where all moved alike."""
DIGITS = 9
"""After the point in which gains that are alike agree: 8.2 - 8.0 and 7.2 - 7.0 differ in the 16th."""


def move(gains: Sequence[float]) -> Move | None:
    """Of what each item gained; None of none."""
    from scipy.stats import ttest_1samp

    if not gains:
        return None
    found: Move = {"difference": fmean(gains), "interval": None, "p": None, "count": len(gains)}
    if len({round(gain, DIGITS) for gain in gains}) > 1:
        test = ttest_1samp(gains, 0.0)
        interval = test.confidence_interval(0.95)
        found |= {"interval": [float(interval.low), float(interval.high)], "p": float(test.pvalue)}
    return found
