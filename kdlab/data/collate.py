"""Examples to a `Batch`: padded on the right, or packed without leaks. It names them by their rows in the dataset.

Shape letters: B batch, T time. T is a multiple of 8 where the longest row allows it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from kdlab.batch import Batch
from kdlab.data.store import Example
from kdlab.rows import IGNORE

MULTIPLE = 8


def padded(examples: Sequence[Example], *, pad_id: int, longest: int) -> Batch:
    """One example a row, with an attention mask. T is at most `longest`."""
    B, T = len(examples), _width([len(example) for example in examples], longest)
    input_ids_BT = np.full((B, T), pad_id, np.int64)
    labels_BT = np.full((B, T), IGNORE, np.int64)
    mask_BT = np.zeros((B, T), np.int64)
    for b, example in enumerate(examples):
        n = len(example)
        input_ids_BT[b, :n] = example.input_ids
        labels_BT[b, :n] = _labels(example)
        mask_BT[b, :n] = 1
    return Batch(
        input_ids_BT=torch.from_numpy(input_ids_BT),
        labels_BT=torch.from_numpy(labels_BT),
        attention_mask_BT=torch.from_numpy(mask_BT),
        example_ids=_rows_of(examples),
    )


def packed(bins: Sequence[Sequence[Example]], *, pad_id: int, longest: int) -> Batch:
    """One bin of examples a row. `position_ids` restart at every example, and at the padding, which tells the models
    not to attend across (without an attention mask and with `use_cache=False`). No example's first token is a label,
    so none is predicted from the example before it."""
    B, T = len(bins), _width([sum(len(example) for example in bin_) for bin_ in bins], longest)
    input_ids_BT = np.full((B, T), pad_id, np.int64)
    labels_BT = np.full((B, T), IGNORE, np.int64)
    positions_BT = np.zeros((B, T), np.int64)
    padding = 0
    for b, bin_ in enumerate(bins):
        t = 0
        for example in bin_:
            span = slice(t, t + len(example))
            input_ids_BT[b, span] = example.input_ids
            labels_BT[b, span] = _labels(example)
            positions_BT[b, span] = np.arange(len(example))
            t += len(example)
        positions_BT[b, t:] = np.arange(T - t)
        padding += T - t
    return Batch(
        input_ids_BT=torch.from_numpy(input_ids_BT),
        labels_BT=torch.from_numpy(labels_BT),
        position_ids_BT=torch.from_numpy(positions_BT),
        padding=padding,
        example_ids=_rows_of([example for bin_ in bins for example in bin_]),
    )


def filler(*, pad_id: int, pack: bool) -> Batch:
    """A batch without a label: what a rank computes, and weighs nothing, where the last step has too few examples."""
    nothing = Example(input_ids=np.array([pad_id], np.int32), supervised=np.array([False]))
    return packed([[nothing]], pad_id=pad_id, longest=1) if pack else padded([nothing], pad_id=pad_id, longest=1)


def _rows_of(examples: Sequence[Example]) -> tuple[int, ...]:
    return tuple(example.row for example in examples if example.row is not None)


def _labels(example: Example) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    labels = np.where(example.supervised, example.input_ids, IGNORE).astype(np.int64)
    labels[:1] = IGNORE
    return labels


def _width(lengths: Sequence[int], longest: int) -> int:
    need = max(lengths)
    return max(need, min(-(-need // MULTIPLE) * MULTIPLE, longest))
