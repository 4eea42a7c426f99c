"""Examples to a `Batch`: padded on the right, or packed without leaks. It names them by their rows in the dataset.

Shape letters: B batch, T time. T is a multiple of 8 where the longest row allows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdlab.batch import Batch
from kdlab.data.store import Example, Layout
from kdlab.rows import IGNORE

MULTIPLE = 8


def padded(examples: Sequence[Example], layout: Layout) -> Batch:
    """One example a row, with an attention mask. An encoder-decoder's batch has the encoder's ids and mask, and labels
    of another width, of which the first is a target too. Where examples are decided about, one label each."""
    batch = _padded(examples, layout)
    if layout.teacher is None:
        return batch
    theirs = [example.teacher for example in examples if example.teacher is not None]
    assert len(theirs) == len(examples)
    return replace(batch, teacher=_padded(theirs, layout.teacher))


def _padded(examples: Sequence[Example], layout: Layout) -> Batch:
    read = [example.input_ids if example.source_ids is None else example.source_ids for example in examples]
    T = written = _width([len(ids) for ids in read], layout.longest)
    if layout.seq2seq:
        written = _width([len(example.input_ids) for example in examples], layout.longest_target)
    mask_BT = np.zeros((len(read), T), np.int64)
    for b, ids in enumerate(read):
        mask_BT[b, : len(ids)] = 1
    decided = layout.decides is not None
    return Batch(
        input_ids_BT=_filled(read, layout.pad_id, T),
        labels_BT=_decisions(examples, layout)
        if decided
        else _filled([_labels(example) for example in examples], IGNORE, written),
        attention_mask_BT=torch.from_numpy(mask_BT),
        example_ids=_rows_of(examples),
        shift=not layout.seq2seq and not decided,
        decides=decided,
        starts_BT=_places([example.starts for example in examples], written),
        ends_BT=_places([example.ends for example in examples], written),
    )


def packed(bins: Sequence[Sequence[Example]], layout: Layout) -> Batch:
    """One bin of examples a row. `position_ids` restart at every example, and at the padding, which tells the models
    not to attend across (without an attention mask and with `use_cache=False`). No example's first token is a label,
    so none is predicted from the example before it."""
    assert not layout.seq2seq
    assert layout.teacher is None
    B, T = len(bins), _width([sum(map(len, bin_)) for bin_ in bins], layout.longest)
    input_ids_BT = np.full((B, T), layout.pad_id, np.int64)
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


def filler(layout: Layout, *, pack: bool = False) -> Batch:
    """A batch without a label: what a rank computes, and weighs nothing, where the last step has too few examples."""
    nothing = _nothing(layout, paired=layout.teacher is not None)
    one = replace(layout, longest=1, longest_target=1)
    if layout.teacher is not None:
        nothing = replace(nothing, teacher=_nothing(layout.teacher, paired=True))
        one = replace(one, teacher=replace(layout.teacher, longest=1, longest_target=1))
    return replace(packed([[nothing]], one) if pack else padded([nothing], one), padding=1)


def _nothing(layout: Layout, *, paired: bool) -> Example:
    pad, nowhere = np.array([layout.pad_id], np.int32), np.array([-1], np.int32) if paired else None
    return Example(
        input_ids=pad,
        supervised=np.array([False]),
        source_ids=pad if layout.seq2seq else None,
        starts=nowhere,
        ends=nowhere,
    )


def _rows_of(examples: Sequence[Example]) -> tuple[int, ...]:
    return tuple(example.row for example in examples if example.row is not None)


def _labels(example: Example) -> NDArray[np.int64]:
    labels = np.where(example.supervised, example.input_ids, IGNORE).astype(np.int64)
    if example.source_ids is None:
        labels[:1] = IGNORE
    return labels


def _decisions(examples: Sequence[Example], layout: Layout) -> Tensor:
    """The label of each example `[B, 1]`; of one without, what counts as none."""
    none, kind = (IGNORE, torch.int64) if layout.decides == "class" else (float("nan"), torch.float32)
    return torch.tensor([[none if example.label is None else example.label] for example in examples], dtype=kind)


def _filled(rows: Sequence[NDArray[Any]], fill: int, width: int) -> Tensor:
    filled_BT = np.full((len(rows), width), fill, np.int64)
    for b, row in enumerate(rows):
        filled_BT[b, : len(row)] = row
    return torch.from_numpy(filled_BT)


def _places(places: Sequence[NDArray[np.int32] | None], width: int) -> Tensor | None:
    known = [place for place in places if place is not None]
    return _filled(known, -1, width) if known else None


def _width(lengths: Sequence[int], longest: int | None) -> int:
    need = max(lengths)
    wide = -(-need // MULTIPLE) * MULTIPLE
    return wide if longest is None else max(need, min(wide, longest))
