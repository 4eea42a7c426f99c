"""Sets of token ids, row by row, in few numbers.

An entry's tokens are numbered by how often they come in it, the most frequent first. A row's numbers are sorted and
kept as the gaps between them, which are then small and few of a kind. Where the table of numbers costs more than it
saves (few rows, rare tokens), the ids themselves are kept as gaps.

Shape letters: N rows, P places (all rows' tokens, one row after the other), D different tokens of an entry.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdlab.teachers.codecs.packing import FOREIGN, pack

Ints = NDArray[Any]


def numbered(ids_P: Ints, counts_N: Ints, vocabulary: int) -> tuple[list[Ints], NDArray[np.int64]]:
    """Two fields to pack (table and gaps), and the order in which each row's tokens lie in them: `ids_P[order]`.

    `counts_N` tokens are each row's; none comes twice in a row.
    """
    rows_P = np.repeat(np.arange(len(counts_N)), counts_N)
    table_D, inverse_P, often_D = np.unique(ids_P, return_inverse=True, return_counts=True)
    by_D = np.lexsort((table_D, -often_D))
    number_D = np.empty(len(by_D), np.int64)
    number_D[by_D] = np.arange(len(by_D))
    steps_D = np.diff(table_D[by_D].astype(np.int64), prepend=0) % 2 ** (8 * _width(vocabulary).itemsize)
    found = []
    for table, values_P in ((steps_D, number_D[inverse_P]), (steps_D[:0], ids_P.astype(np.int64))):
        order_P = np.lexsort((values_P, rows_P))
        found.append(([table, _gaps(values_P[order_P], counts_N)], order_P))
    return min(found, key=lambda fields: len(pack(fields[0])))


def ids_of(table_D: Ints, gaps_P: Ints, counts_N: Ints | int, vocabulary: int) -> Ints:
    """Back from `numbered`: the ids, each row's in the order that it gave. `counts_N` is one number where all rows have
    as many. Raises ValueError for numbers that are not in the table, or ids that are not in the vocabulary."""
    if not len(gaps_P):
        return gaps_P
    values_P = _summed(gaps_P, counts_N)
    if len(table_D):
        try:
            values_P = np.cumsum(table_D, dtype=_width(vocabulary)).take(values_P)
        except IndexError as error:
            raise ValueError(f"{FOREIGN} (a token without a number)") from error
    if int(values_P.max()) >= vocabulary:
        raise ValueError(f"{FOREIGN} (token {int(values_P.max())} of a vocabulary of {vocabulary})")
    return values_P


def _width(vocabulary: int) -> np.dtype[Any]:
    """The type that the table's steps are taken in, around its end where they go down."""
    return np.dtype(np.uint16 if vocabulary <= 2**16 else np.uint32)


def _gaps(values_P: Ints, counts_N: Ints) -> Ints:
    gaps_P = np.diff(values_P, prepend=0)
    first = _starts(counts_N)[counts_N > 0]
    gaps_P[first] = values_P[first]
    return gaps_P


def _summed(gaps_P: Ints, counts_N: Ints | int) -> Ints:
    """The sums within each row: 31 bits hold those that `_gaps` made, and what is larger is refused as too large."""
    if isinstance(counts_N, int):
        rows_NK = torch.from_numpy(gaps_P.astype(np.int32).reshape(-1, counts_N))  # twice as fast as numpy's
        sums_NK: Ints = rows_NK.cumsum(1, dtype=torch.int32).numpy()
        sums_P: Ints = sums_NK.reshape(-1).view(np.uint32)
        return sums_P
    sums = np.cumsum(gaps_P, dtype=np.uint64)
    before_N = np.concatenate([np.zeros(1, np.uint64), sums])[_starts(counts_N)]
    within: Ints = sums - np.repeat(before_N, counts_N)
    return within


def _starts(counts_N: Ints) -> NDArray[np.int64]:
    return np.cumsum(counts_N, dtype=np.int64) - counts_N
