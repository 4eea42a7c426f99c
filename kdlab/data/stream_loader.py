"""Steps out of a stream. The state names the block the next unit stands in and its place there, so resuming is exact
and costs at most one block read again. Every rank reads the whole stream and takes its part of each step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from kdlab.batch import Batch, Step
from kdlab.data.collate import filler, packed, padded
from kdlab.data.loader_options import LoaderOptions
from kdlab.data.order import epoch_order, micro_batches, pack_bins
from kdlab.data.store import Example
from kdlab.data.stream import State, TokenStream
from kdlab.data.tokens import VERSION

Unit = list[Example]


class _StreamSteps(IterableDataset[tuple[Step, State]]):
    """Steps with the state that follows each, endlessly: a source that ends begins again, in another order."""

    def __init__(self, stream: TokenStream, options: LoaderOptions) -> None:
        self.stream, self.options = stream, options
        self.layout = stream.layout(pad_id=options.pad_id)
        self.state: State = {"epoch": 0, "row": 0, "stream": None, "unit": 0, "counts": {}, "read": {}}
        self._counts: dict[str, int] = {}

    def __iter__(self) -> Iterator[tuple[Step, State]]:
        state = self.state
        while True:
            fresh, pending = state["row"] == state["unit"] == 0, []
            for unit, following in self._units(state):
                fresh = False
                pending.append(unit)
                if len(pending) == self.options.per_step:
                    yield self._step(pending), following
                    pending = []
            if fresh:
                raise ValueError(f"{self.stream.source.typed}: no row of the stream can be trained on")
            state = {"epoch": state["epoch"] + 1, "row": 0, "stream": None, "unit": 0}
            state |= {"counts": self._counts, "read": self._counts}
            if pending:
                yield self._step(pending), state

    def _units(self, state: State) -> Iterator[tuple[Unit, State]]:
        """The units of an epoch from `state` on, each with the state of the one after it."""
        skip = state["unit"]
        for begun, examples, counts in self.stream.blocks(state):
            self._counts = counts
            units = self._shuffled(examples, state["epoch"], begun["row"])
            for number, unit in enumerate(units):
                if number >= skip:
                    yield unit, {"epoch": state["epoch"], **begun, "unit": number + 1, "read": counts}
            skip = 0

    def _shuffled(self, examples: list[Example], epoch: int, row: int) -> Iterator[Unit]:
        options = self.options
        lengths = np.array([len(example) for example in examples], np.int64)
        if options.pack:
            bins = pack_bins(lengths, max_length=self.stream.max_length, seed=options.seed)
            units = [[examples[i] for i in bin_] for bin_ in bins]
        else:
            units = [[example] for example in examples]
        lengths = np.array([sum(map(len, unit)) for unit in units], np.int64)
        order = epoch_order(
            lengths,
            seed=options.seed * 1_000_003 + row,
            epoch=epoch,
            per_step=options.per_step,
            group_by_length=options.group_by_length,
        )
        return (units[i] for i in order.tolist())

    def _step(self, units: list[Unit]) -> Step:
        options = self.options
        lengths = np.array([sum(map(len, unit)) for unit in units], np.int64)
        parts = micro_batches(
            np.arange(len(units)), lengths, batch_size=options.batch_size, rank=options.rank, world=options.world
        )
        return [self._batch([units[i] for i in part.tolist()]) for part in parts]

    def _batch(self, units: list[Unit]) -> Batch:
        if not units:
            return filler(self.layout, pack=self.options.pack)
        if self.options.pack:
            return packed(units, self.layout)
        return padded([unit[0] for unit in units], self.layout)


class StreamLoader(DataLoader[Batch]):
    """As `loader.StepLoader`, over a stream; an epoch is `max_steps` steps. With `workers` one process reads ahead.

    `counts` says what has been read so far, the block in work and the epochs before included: `rows`, `examples`,
    `tokens`, `supervised`, `cut` (examples), `cut_tokens`, and `skipped: <reason>` for each reason, among them
    `skipped: that are also held out`; with an encoder `source_tokens`, `cut_sources` and `cut_source_tokens`; with a
    teacher that has a tokenizer or a prompt of its own `teacher_tokens`.
    """

    def __init__(self, stream: TokenStream, options: LoaderOptions) -> None:
        if options.max_steps is None:
            raise ValueError("trainer.max_steps is not set: dataset.streaming=true has no end, so say how many steps")
        self.max_steps, self._done, self._resume = options.max_steps, 0, False
        described = [VERSION, *stream.described, options.per_step, options.seed, options.pack, options.group_by_length]
        self._identity = hashlib.sha256(repr(described).encode()).hexdigest()
        self._source = _StreamSteps(stream, options)
        super().__init__(
            self._source,  # type: ignore[arg-type]
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=min(options.workers, 1),
            generator=torch.Generator().manual_seed(options.seed),
        )

    def __len__(self) -> int:
        return self.max_steps

    def __iter__(self) -> Iterator[Step]:  # type: ignore[override]
        if not self._resume:
            self._done = 0
        self._resume = False
        steps = super().__iter__()
        while self._done < self.max_steps:
            step, self._source.state = next(steps)
            self._done += 1
            yield step

    @property
    def counts(self) -> dict[str, int]:
        return dict(self._source.state["read"])

    def state_dict(self) -> dict[str, Any]:
        return {"done": self._done, "state": self._source.state, "identity": self._identity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the steps counted in `state`. Raises ValueError where they were steps of another stream."""
        if state["identity"] != self._identity:
            raise ValueError(
                "the checkpoint was made with another stream, seed, batch size, packing or grouping; "
                "its place in the data means nothing here: start a run of another name=..."
            )
        self._done, self._source.state, self._resume = state["done"], state["state"], True


def _as_it_is(item: Any) -> Any:
    return item
