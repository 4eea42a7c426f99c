"""Logarithms of sums and complements of probabilities, safe where they are 0 or 1. Importable without torch."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NOTHING = -1e30
"""The logarithm of no mass at all: far below any real one and, unlike -inf, 0 after times 0."""


def log_mass(log_PV: Tensor) -> Tensor:
    """log Σ_v exp, `[P]`; NOTHING where there are no entries."""
    if log_PV.shape[1] == 0:
        return log_PV.new_full((len(log_PV),), NOTHING)
    return log_PV.logsumexp(-1)


def log1mexp(log_S: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0, exact to rounding at either end (Mächler, 2012), and so is its gradient."""
    near = log_S > -log(2)  # the branch that is not taken gets an argument it can bear: its gradient is 0 times finite
    near_S = log_S.where(near, -1.0).expm1().neg().log()
    far_S = log_S.where(~near, -1.0).exp().neg().log1p()
    return near_S.where(near, far_S)
