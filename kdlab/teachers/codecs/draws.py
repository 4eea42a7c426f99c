"""Draws from rows of probabilities, for an estimate that is right on average.

m draws of a row lie 1/m apart on its cumulative probabilities, from a start drawn evenly from [0, 1/m): systematic
sampling (Madow and Madow, 1944). An entry of probability p is then drawn floor(m p) or ceil(m p) times and m p times on
average, so count / m is unbiased. Independent draws are too, but they scatter up to twice as much for about the same
bytes (benchmarks/README.md).

Shape letters: n rows, V vocabulary, m draws, P places (different entries drawn, one row after the other).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]


def systematic(probability_nV: Tensor, draws: int, uniform_n: NDArray[np.float64]) -> Ints:
    """The entries drawn of each row `[n, m]`, rising; `uniform` in [0, 1) decides. The probabilities need not sum to 1;
    what is 0 is never drawn, and a row of nothing but 0 gives -1."""
    places_nm = (torch.from_numpy(uniform_n)[:, None] + torch.arange(draws)) / draws
    summed_nV = probability_nV.cumsum(1, dtype=torch.float64)
    total_n1 = summed_nV[:, -1:]
    points_nm = places_nm.to(summed_nV) * total_n1
    points_nm = torch.minimum(points_nm, torch.nextafter(total_n1, torch.zeros_like(total_n1)))
    ids_nm = torch.searchsorted(summed_nV, points_nm, right=True)
    found: Ints = ids_nm.masked_fill(total_n1 <= 0, -1).cpu().numpy()
    return found


def counted(ids_nm: Ints) -> tuple[Ints, Ints, Ints]:
    """Each row's different entries, how often each was drawn, and how many are each row's: `[P]`, `[P]`, `[n]`."""
    new_nm = ids_nm >= 0
    new_nm[:, 1:] &= ids_nm[:, 1:] != ids_nm[:, :-1]
    begins_P = np.flatnonzero(new_nm)
    ends_P = np.append(begins_P[1:], ids_nm.size)
    last_P = (begins_P // max(1, ids_nm.shape[1]) + 1) * ids_nm.shape[1]
    return ids_nm.reshape(-1)[begins_P], np.minimum(ends_P, last_P) - begins_P, new_nm.sum(1)


def generator(seed: int) -> Any:
    return np.random.Generator(np.random.PCG64(seed))
