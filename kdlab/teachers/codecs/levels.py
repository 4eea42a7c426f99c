"""Log-probabilities on a grid: how far each lies above the smallest of its row, in steps.

Only differences are kept. What the entries of a row weigh together is known from the mass of the rest, exactly, so that
everything sums to 1 after reading: a log-probability is then wrong by half a step, and by as much again where the row's
common level moves to make up for it.

Shape letters: N rows, K entries kept of each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdlab.teachers.codecs.packing import FOREIGN

FLOOR = -16384.0
"""In nats: what lies further below a row's largest entry is kept as if it lay there. -inf stays -inf."""
Floats = NDArray[np.float32]


def levels(logp_NK: Floats, step: float, uniform_NK: NDArray[np.float64] | None = None) -> NDArray[np.uint32]:
    """The level of each: 0 for -inf, else 1 + (logp - smallest) / step, rounded to the nearest; or, where `uniform`
    numbers in [0, 1) are given, up or down by chance, so that the mean probability is the true one."""
    exact_NK = logp_NK.astype(np.float64)
    there_NK = np.isfinite(exact_NK)
    top_N1 = exact_NK.max(axis=1, keepdims=True, initial=-np.inf)
    exact_NK = np.maximum(exact_NK, np.where(np.isfinite(top_N1), top_N1, 0) + FLOOR)
    least_N1 = np.where(there_NK, exact_NK, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    above_NK = np.where(there_NK, exact_NK - np.where(np.isfinite(least_N1), least_N1, 0), 0) / step
    if uniform_NK is None:
        level_NK = np.rint(above_NK)
    else:
        below_NK = np.floor(above_NK)
        share_NK = np.expm1((above_NK - below_NK) * step) / np.expm1(step)
        level_NK = below_NK + (uniform_NK < share_NK)
    return np.where(there_NK, level_NK + 1, 0).astype(np.uint32)


def restored(level_NK: NDArray[Any], rest_N: Floats, step: float) -> Floats:
    """Log-probabilities that sum to 1 with exp(rest). Raises ValueError for a rest above 1."""
    import torch

    if not (rest_N <= 0).all():
        raise ValueError(f"{FOREIGN} (more than all the mass)")
    value_NK = torch.from_numpy(level_NK.astype(np.float32))
    value_NK.sub_(value_NK.amax(1, keepdim=True)).mul_(step)
    if level_NK.size and not level_NK.min():
        value_NK.masked_fill_(torch.from_numpy(level_NK == 0), -torch.inf)
    mass_N1 = torch.from_numpy(-np.expm1(rest_N))[:, None]
    value_NK += (mass_N1 / value_NK.exp().sum(1, keepdim=True)).log_()  # a sum of 1 and more: nothing ends above 0
    found: Floats = value_NK.numpy()
    return found
