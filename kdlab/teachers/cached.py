"""A teacher that has spoken before: its signals, read from the cache that `kdlab cache` wrote.

Shape letters: N rows, V vocabulary, H hidden.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kdlab.rows import Dense, Projected
from kdlab.teachers.cache.keys import keys_of
from kdlab.teachers.cache.manifest import SEQ2SEQ

if TYPE_CHECKING:
    from kdlab.batch import Batch
    from kdlab.rows import Signal
    from kdlab.teachers.cache.store import SignalCache
    from kdlab.teachers.options import TeacherConfig


SHOWN = 4
"""Rows that a message names."""


class CachedTeacher:
    """Answers every batch with what a teacher said of these very examples: they are looked up by their content, so
    neither order nor padding nor packing matters. It is no model: it writes no text and has no layers.
    """

    model: None = None
    split: None = None

    def __init__(self, cache: SignalCache, *, name: str = "teacher.path") -> None:
        """`name` is what the user called it, for messages."""
        self.cache, self.name = cache, name
        self.tokenizer: Any = cache.tokenizer()
        self._head: Projected | None = None

    @classmethod
    def open(cls, config: TeacherConfig, *, option: str = "teacher.path") -> CachedTeacher:
        """The teacher of the cache at `config.path`, which `option` names. Raises as `SignalCache` does."""
        from kdlab.teachers.cache.store import SignalCache

        if not config.path:
            raise ValueError("teacher.path is not set: write teacher.path=<the folder that `kdlab cache` wrote>")
        return cls(SignalCache(config.path, option=option), name=f"{option}={config.path}")

    @property
    def description(self) -> str:
        return f"{self.cache.manifest.teacher['description']}, kept by codec={self.cache.codec.name}"

    @property
    def identity(self) -> str:
        return self.cache.identity

    @property
    def seq2seq(self) -> bool:
        """Whether it is that of an encoder-decoder model."""
        return bool(self.cache.manifest.reading.get(SEQ2SEQ))

    @property
    def disk_bytes(self) -> int:
        return self.cache.disk_bytes

    @property
    def vocabulary(self) -> int:
        return self.cache.vocabulary

    def signal(self, batch: Batch, positions_N: Tensor) -> Signal:
        """The signal of every row of the batch, on its device. Raises ValueError, naming the row of the dataset, for an
        example that the cache does not hold."""
        found = keys_of(batch)
        asked = sum(count for _, count in found)
        assert asked == len(positions_N), f"a cache is asked for all rows of an example: {len(positions_N)} of {asked}"
        device = batch.input_ids_BT.device
        if not found:
            return Dense(logits_NV=torch.zeros(0, self.vocabulary, device=device))
        keys = [key for key, _ in found]
        try:
            signal = self.cache.signal(keys)
        except KeyError as error:
            raise ValueError(self._missing(batch, keys)) from error
        if len(signal) != asked:
            raise ValueError(
                f"{self.name}: holds {len(signal)} rows of examples that have {asked}; "
                "look for damage with `kdlab cache verify`"
            )
        return self._on(signal, device)

    def _missing(self, batch: Batch, keys: list[bytes]) -> str:
        """Which examples of a batch have no signal."""
        missing = [i for i, key in enumerate(keys) if key not in self.cache]
        rows = batch.example_ids
        if len(rows) == len(keys):  # else some of the batch ask nothing, and which of them is not known
            rows = tuple(rows[i] for i in missing)
        named = ", ".join(map(str, rows[:SHOWN])) + (", ..." if len(rows) > SHOWN else "")
        return (
            f"{self.name}: has no signal for {len(missing)} of the {len(keys)} examples of a batch (row {named} of the "
            "dataset); run `kdlab cache` with the options of this run"
        )

    def _on(self, signal: Signal, device: torch.device) -> Signal:
        """The signal on `device`. The head is the same for every batch: it is moved, and widened to what it is
        multiplied in, once."""
        if not isinstance(signal, Projected):
            return moved(signal, device)
        dtype = signal.hidden_NH.dtype
        if self._head is None or (self._head.weight_VH.device, self._head.weight_VH.dtype) != (device, dtype):
            self._head = replace(
                signal,
                hidden_NH=signal.hidden_NH[:0],
                weight_VH=signal.weight_VH.to(device, dtype),
                bias_V=None if signal.bias_V is None else signal.bias_V.to(device, dtype),
            )
        return replace(self._head, hidden_NH=signal.hidden_NH.to(device))


def moved(signal: Signal, device: torch.device) -> Signal:
    """The signal with all its tensors on `device`."""
    tensors: dict[str, Any] = {
        field.name: value.to(device)
        for field in fields(signal)
        if isinstance(value := getattr(signal, field.name), Tensor)
    }
    return replace(signal, **tensors)
