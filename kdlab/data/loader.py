"""Batches out of a token store: training steps that resume exactly, and the held-out pass.

    for step in StepLoader(store, LoaderOptions(batch_size=8, accumulate=4, seed=0, pad_id=0)):
        for batch in step: ...

`state_dict` counts the steps yielded, so prefetching workers do not disturb it; a loader that is given it goes on with
the very step that would have come next, in this epoch and in all later ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from kdlab.batch import Batch, Step
from kdlab.data.collate import filler, packed, padded
from kdlab.data.loader_options import LoaderOptions
from kdlab.data.order import Ints, epoch_order, micro_batches, pack_bins
from kdlab.data.store import Layout, TokenStore

if TYPE_CHECKING:
    from kdlab.data.labelled.store import LabelledStore
    from kdlab.data.stream import TokenStream
    from kdlab.data.stream_loader import StreamLoader


class _Batches(Dataset[Batch]):
    """From the units of a micro-batch to the `Batch`. Runs in the workers."""

    def __init__(self, store: TokenStore | LabelledStore, bins: list[list[int]] | None, layout: Layout) -> None:
        self.store, self.bins, self.layout = store, bins, layout

    def __getitem__(self, units: tuple[int, ...]) -> Batch:
        if not units:
            return filler(self.layout, pack=self.bins is not None)
        if self.bins is None:
            return padded([self.store[i] for i in units], self.layout)
        return packed([[self.store[i] for i in self.bins[u]] for u in units], self.layout)


class _Steps(Sampler[list[tuple[int, ...]]]):
    """The micro-batches of each step of an epoch, for this rank, from step `start` on."""

    def __init__(self, lengths: Ints, options: LoaderOptions) -> None:
        self.lengths, self.options = lengths, options
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.options.per_step)

    def __iter__(self) -> Iterator[list[tuple[int, ...]]]:
        options, per_step = self.options, self.options.per_step
        order = epoch_order(
            self.lengths,
            seed=options.seed,
            epoch=self.epoch,
            per_step=per_step,
            group_by_length=options.group_by_length,
        )
        for k in range(self.start, len(self)):
            units = order[k * per_step : (k + 1) * per_step]
            parts = micro_batches(
                units, self.lengths, batch_size=options.batch_size, rank=options.rank, world=options.world
            )
            yield [tuple(part.tolist()) for part in parts]


class StepLoader(DataLoader[Batch]):
    """Yields a `Step`, the `accumulate` micro-batches of one optimiser step, for this rank; the last step of an epoch
    may have fewer. Its length is the steps of an epoch, the same on every rank.
    """

    def __init__(self, store: TokenStore | LabelledStore, options: LoaderOptions) -> None:
        lengths = np.asarray(store.lengths, np.int64)
        bins = pack_bins(lengths, max_length=store.max_length, seed=options.seed) if options.pack else None
        units = np.array([lengths[bin_].sum() for bin_ in bins], np.int64) if bins is not None else lengths
        self.steps = _Steps(units, options)
        described = [store.content_hash, options.per_step, options.seed, options.pack, options.group_by_length]
        described.append(store.max_length if options.pack else 0)
        self._identity = hashlib.sha256(repr(described).encode()).hexdigest()
        self._epoch = self._done = self._resume = 0
        super().__init__(
            _Batches(store, bins, store.layout(pad_id=options.pad_id)),
            batch_sampler=self.steps,
            collate_fn=list,
            num_workers=options.workers,
            generator=torch.Generator().manual_seed(options.seed),  # else every epoch would draw from the global one
        )

    def __iter__(self) -> Iterator[Step]:  # type: ignore[override]
        self.steps.epoch, self.steps.start = self._epoch, self._resume
        self._done, self._resume = self._resume, 0
        for step in super().__iter__():
            self._done += 1
            if self._done == len(self):
                self._epoch, self._done = self._epoch + 1, 0
            yield step

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers: the epoch, the steps of it that were yielded, and a hash of what decides the order."""
        return {"epoch": self._epoch, "done": self._done, "identity": self._identity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the steps counted in `state`. Raises ValueError where they were steps of other data."""
        if state["identity"] != self._identity:
            raise ValueError(
                "the checkpoint was made with other training data, seed, batch size, packing or grouping; "
                "its place in the data means nothing here: start a run of another name=..."
            )
        self._epoch, self._done, self._resume = state["epoch"], state["done"], state["done"]


def heldout_batches(
    store: TokenStore | LabelledStore, *, batch_size: int, pad_id: int, tokens: int | None = None
) -> Iterator[Batch]:
    """The held-out examples, each once, longest first. `tokens` caps how many tokens are read: examples are then taken
    in a fixed random order, the same for every run on this data, while they fit (the first always)."""
    chosen, layout = np.arange(len(store)), store.layout(pad_id=pad_id)
    if tokens is not None and store.tokens > tokens:
        order = np.random.default_rng(0).permutation(len(store))
        chosen = order[: max(1, int(np.searchsorted(np.cumsum(store.lengths[order]), tokens, side="right")))]
    chosen = chosen[np.argsort(-store.lengths[chosen], kind="stable")].tolist()
    for i in range(0, len(chosen), batch_size):
        yield padded([store[j] for j in chosen[i : i + batch_size]], layout)


def open_loader(train: TokenStore | TokenStream | LabelledStore, options: LoaderOptions) -> StepLoader | StreamLoader:
    """The loader for `Data.train`, stored or streamed."""
    from kdlab.data.stream import TokenStream

    if not isinstance(train, TokenStream):
        return StepLoader(train, options)
    from kdlab.data.stream_loader import StreamLoader

    return StreamLoader(train, options)
