"""Batches out of a token store: training steps that resume exactly, and the held-out pass.

    for step in StepLoader(store, batch_size=8, accumulate=4, seed=0, pad_id=0, max_length=512):
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
from kdlab.data.order import Ints, epoch_order, micro_batches, pack_bins
from kdlab.data.store import TokenStore

if TYPE_CHECKING:
    from kdlab.data.stream import TokenStream
    from kdlab.data.stream_loader import StreamLoader


class _Batches(Dataset[Batch]):
    """From the units of a micro-batch to the `Batch`. Runs in the workers."""

    def __init__(
        self, store: TokenStore, bins: list[list[int]] | None, *, pad_id: int, max_length: int, pack: bool
    ) -> None:
        self.store, self.bins, self.pad_id, self.max_length, self.pack = store, bins, pad_id, max_length, pack

    def __getitem__(self, units: tuple[int, ...]) -> Batch:
        if not units:
            return filler(pad_id=self.pad_id, pack=self.pack)
        if self.bins is None:
            return padded([self.store[i] for i in units], pad_id=self.pad_id, longest=self.max_length)
        bins = [[self.store[i] for i in self.bins[u]] for u in units]
        return packed(bins, pad_id=self.pad_id, longest=self.max_length)


class _Steps(Sampler[list[tuple[int, ...]]]):
    """The micro-batches of each step of an epoch, for this rank, from step `start` on."""

    def __init__(
        self,
        lengths: Ints,
        *,
        batch_size: int,
        accumulate: int,
        seed: int,
        group_by_length: bool,
        rank: int,
        world: int,
    ) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.group_by_length, self.rank, self.world = group_by_length, rank, world
        self.per_step = batch_size * accumulate * world
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.per_step)

    def __iter__(self) -> Iterator[list[tuple[int, ...]]]:
        order = epoch_order(
            self.lengths,
            seed=self.seed,
            epoch=self.epoch,
            per_step=self.per_step,
            group_by_length=self.group_by_length,
        )
        for k in range(self.start, len(self)):
            units = order[k * self.per_step : (k + 1) * self.per_step]
            parts = micro_batches(units, self.lengths, batch_size=self.batch_size, rank=self.rank, world=self.world)
            yield [tuple(part.tolist()) for part in parts]


class StepLoader(DataLoader[Batch]):
    """Yields a `Step`, the `accumulate` micro-batches of one optimiser step, for this rank; the last step of an epoch
    may have fewer. Its length is the steps of an epoch, the same on every rank.

    The order is a function of `seed` and epoch alone. `pack` fills rows of `max_length` with whole examples (the same
    bins in every epoch, in another order); `group_by_length` batches examples of like length. Padding is on the right.
    """

    def __init__(
        self,
        store: TokenStore,
        *,
        batch_size: int,
        accumulate: int = 1,
        seed: int = 0,
        pad_id: int,
        max_length: int,
        pack: bool = False,
        group_by_length: bool = False,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
    ) -> None:
        assert 0 <= rank < world
        assert not (pack and group_by_length)
        lengths = np.asarray(store.lengths, np.int64)
        bins = pack_bins(lengths, max_length=max_length, seed=seed) if pack else None
        units = np.array([lengths[bin_].sum() for bin_ in bins], np.int64) if bins is not None else lengths
        self.steps = _Steps(
            units,
            batch_size=batch_size,
            accumulate=accumulate,
            seed=seed,
            group_by_length=group_by_length,
            rank=rank,
            world=world,
        )
        described = [store.content_hash, self.steps.per_step, seed, pack, group_by_length, max_length if pack else 0]
        self._identity = hashlib.sha256(repr(described).encode()).hexdigest()
        self._epoch = self._done = self._resume = 0
        super().__init__(
            _Batches(store, bins, pad_id=pad_id, max_length=max_length, pack=pack),
            batch_sampler=self.steps,
            collate_fn=list,
            num_workers=workers,
            generator=torch.Generator().manual_seed(seed),  # else every epoch would draw from the global one
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


def heldout_batches(store: TokenStore, *, batch_size: int, pad_id: int, tokens: int | None = None) -> Iterator[Batch]:
    """The held-out examples, each once, longest first. `tokens` caps how many tokens are read: examples are then taken
    in a fixed random order, the same for every run on this data, while they fit (the first always)."""
    chosen = np.arange(len(store))
    if tokens is not None and store.tokens > tokens:
        order = np.random.default_rng(0).permutation(len(store))
        chosen = order[: max(1, int(np.searchsorted(np.cumsum(store.lengths[order]), tokens, side="right")))]
    chosen = chosen[np.argsort(-store.lengths[chosen], kind="stable")].tolist()
    for i in range(0, len(chosen), batch_size):
        yield padded([store[j] for j in chosen[i : i + batch_size]], pad_id=pad_id, longest=store.max_length)


def open_loader(
    train: TokenStore | TokenStream,
    *,
    batch_size: int,
    accumulate: int = 1,
    seed: int = 0,
    pad_id: int,
    max_length: int,
    pack: bool = False,
    group_by_length: bool = False,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    max_steps: int | None = None,
) -> StepLoader | StreamLoader:
    """The loader for `Data.train`, stored or streamed. A stream needs `max_steps` (`trainer.max_steps`)."""
    if isinstance(train, TokenStore):
        return StepLoader(
            train,
            batch_size=batch_size,
            accumulate=accumulate,
            seed=seed,
            pad_id=pad_id,
            max_length=max_length,
            pack=pack,
            group_by_length=group_by_length,
            rank=rank,
            world=world,
            workers=workers,
        )
    from kdlab.data.stream_loader import StreamLoader

    return StreamLoader(
        train,
        batch_size=batch_size,
        accumulate=accumulate,
        seed=seed,
        pad_id=pad_id,
        max_length=max_length,
        pack=pack,
        group_by_length=group_by_length,
        rank=rank,
        world=world,
        workers=workers,
        max_steps=max_steps,
    )
