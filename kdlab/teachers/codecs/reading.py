"""A teacher's whole predictions, a few rows at a time, for the codecs that choose from them.

Each entry is read by itself, from its first row: what is computed of it does not depend on what else is in the call.

Shape letters: N rows, n rows of one chunk, V vocabulary, K entries kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kdlab.rows import Dense, Projected, Side, Signal, TopK

ELEMENTS = 2**23
"""Logits in a chunk: 32 MiB."""
LOWEST_HALF = -65504.0


def spans(signal: Signal, labels_N: Tensor, lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Where each entry's rows begin and end."""
    assert len(signal) == len(labels_N) == sum(lengths), (len(signal), len(labels_N), sum(lengths))
    ends = list(accumulate(lengths))
    return list(zip([0, *ends[:-1]], ends, strict=True)) if ends else []


def side_of(signal: Signal, codec: str) -> Side:
    """The signal, where it tells of every entry. Raises ValueError, naming the `codec`, for one of some entries."""
    if isinstance(signal, Dense | Projected):
        return signal
    if isinstance(signal, TopK):
        raise ValueError(
            f"codec={codec}: needs the teacher's whole distribution, and this one tells of its "
            f"{signal.ids_NK.shape[1]} most likely tokens; use codec=topk"
        )
    raise ValueError(f"codec={codec}: needs the teacher's whole distribution, and this one tells of draws from it only")


def log_probabilities(
    side: Side, span: tuple[int, int], labels_N: Tensor, temperature: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows of a span in chunks: log-probabilities `[n, V]` at `temperature`, float32, and those of the labels at
    T = 1 `[n]`. Raises ValueError where they are no numbers."""
    longest = max(1, ELEMENTS // side.vocabulary)
    for start in range(*span, longest):
        part = slice(start, min(start + longest, span[1]))
        logits_nV = logits(side, part)
        mass_n = logits_nV.logsumexp(1)
        if not bool(mass_n.isfinite().all()):
            raise ValueError("teacher: its logits are not all numbers (NaN or inf); try teacher.dtype=float32")
        labels_n1 = labels_N[part].to(logits_nV.device)[:, None]
        label_n = logits_nV.gather(1, labels_n1).squeeze(1) - mass_n
        if temperature != 1:
            logits_nV = logits_nV / temperature
            mass_n = logits_nV.logsumexp(1)
        yield logits_nV - mass_n[:, None], label_n


def logits(side: Side, part: slice) -> Tensor:
    """Some rows' logits in float32. The rows are copied first: where they lie in memory decides nothing."""
    if isinstance(side, Dense):
        return side.logits_NV[part].float()
    return replace(side, hidden_NH=side.hidden_NH[part].clone()).dense().logits_NV.float()


def halves(values: Tensor) -> NDArray[Any]:
    """float16 on the CPU; finite values stay finite."""
    exact = values.float().cpu().numpy()
    return np.where(np.isneginf(exact), exact, np.maximum(exact, LOWEST_HALF)).astype(np.float16)
