"""Any finished model behind one interface: a folder of transformers, an adapter, or a variant of `kdlab export`.

    variant = open_variant("multirun/export/default/onnx_int8")
    variant.logits([variant.tokenizer("Where is my card?")["input_ids"]])      # [1, C] of a classifier

A folder's `variant.json` says what kind of variant it holds; a folder without one is read by transformers.

Shape letters: B batch, T time, N texts, C classes, V vocabulary.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdlab.durable import read_json
from kdlab.models.progress import say

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from kdlab.text.task import Task

    Floats = NDArray[np.float32]
    Ids = NDArray[np.int64]

CLASSIFIER, CAUSAL = "classifier", "causal"
DESCRIPTION = "variant.json"


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What a model wrote: `log_probability` is the sum over its `tokens` (the one that ended it included), in nats;
    `stopped` by "end", a token of the model's own, or by "limit"."""

    text: str
    tokens: int
    log_probability: float
    stopped: str


@dataclass(kw_only=True)
class Variant(ABC):
    """A finished model. `kind` is "classifier", with a `task`, or "causal". `disk_bytes` are its weight files;
    `memory_bytes` is by how much opening it and reading one short text raised this process's resident memory; at least
    `held_bytes`, for pages of a mapped file that were not read yet are not resident."""

    name: str
    folder: Path | None
    kind: str
    task: Task | None
    tokenizer: PreTrainedTokenizerBase
    config: Any
    pad_id: int
    ends: frozenset[int]
    disk_bytes: int | None = None
    memory_bytes: int | None = None

    @abstractmethod
    def forward(self, ids_BT: Ids, mask_BT: Ids) -> Floats:
        """The logits `[B, C]`, or `[B, T, V]` of every position, of rows that are padded on the right."""

    def reader(self) -> Callable[[Sequence[int]], Floats]:
        """A function that reads more tokens of one text and gives the logits `[V]` of what comes next. Here the whole
        text is read again for every token."""
        read: list[int] = []

        def more(ids: Sequence[int]) -> Floats:
            read.extend(ids)
            ids_BT = np.asarray([read], np.int64)
            logits_V: Floats = self.forward(ids_BT, np.ones_like(ids_BT))[0, -1]
            return logits_V

        return more

    @property
    def held_bytes(self) -> int:
        """Bytes of the weights as they are in memory, as far as they can be counted."""
        return 0

    @property
    def positions(self) -> int | None:
        """How many tokens the model has positions for; None: no bound is known."""
        return getattr(self.config.get_text_config(), "max_position_embeddings", None)

    def padded(self, ids: Sequence[Sequence[int]]) -> tuple[Ids, Ids]:
        """Ids and attention mask `[B, T]`, padded on the right."""
        assert ids
        assert all(len(row) for row in ids), "an empty text"
        longest = max(map(len, ids))
        ids_BT = np.full((len(ids), longest), self.pad_id, np.int64)
        mask_BT = np.zeros_like(ids_BT)
        for b, row in enumerate(ids):
            ids_BT[b, : len(row)] = row
            mask_BT[b, : len(row)] = 1
        return ids_BT, mask_BT

    def logits(self, ids: Sequence[Sequence[int]]) -> Floats:
        """float32 `[N, C]` of a classifier, `[N, V]` after each text's last token of a model that writes."""
        ids_BT, mask_BT = self.padded(ids)
        found = self.forward(ids_BT, mask_BT)
        return found if self.kind == CLASSIFIER else found[np.arange(len(ids)), mask_BT.sum(1) - 1]

    def scores(self, ids: Sequence[Sequence[int]]) -> list[Floats]:
        """Of a model that writes: the log-probabilities `[T, V]` after every token of each text."""
        assert self.kind == CAUSAL
        ids_BT, mask_BT = self.padded(ids)
        found = self.forward(ids_BT, mask_BT)
        return [log_softmax(found[b, : len(row)]) for b, row in enumerate(ids)]

    def complete(self, ids: Sequence[int], *, max_new_tokens: int) -> Completion:
        """What follows `ids`, the likeliest token at each step, up to a token that ends a text or `max_new_tokens`."""
        assert self.kind == CAUSAL
        room = math.inf if self.positions is None else self.positions - len(ids)
        if not ids or room < 1:
            raise ValueError(f"{self.name}: a prompt of {len(ids)} tokens; it reads from 1 to {self.positions} tokens")
        more, written, total = self.reader(), list[int](), 0.0
        logits_V = more(ids)
        while True:
            chosen = int(logits_V.argmax())
            total += float(log_softmax(logits_V)[chosen])
            written.append(chosen)
            if chosen in self.ends or len(written) == min(max_new_tokens, room):
                break
            logits_V = more([chosen])
        text = str(self.tokenizer.decode(written, skip_special_tokens=True))
        stopped = "end" if chosen in self.ends else "limit"
        return Completion(text=text, tokens=len(written), log_probability=total, stopped=stopped)


def log_softmax(logits: Floats) -> Floats:
    """Over the last axis: x - log sum exp x."""
    shifted = logits - logits.max(-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def open_variant(
    path: str | Path, *, device: str = "cpu", threads: int | None = None, dtype: str = "auto", option: str = "path"
) -> Variant:
    """The model at `path`, ready to answer, on `threads` threads (None: as many as PyTorch has). `dtype` is that of
    plain weights of transformers; `option` is how the user typed the path.

    A folder of a run stands for its `model/`, which is said. Raises FileNotFoundError where nothing is there, and
    ValueError for what is no model or cannot be loaded, in one line.
    """
    import torch

    from kdlab.exporting.memory import resident_bytes
    from kdlab.exporting.onnx_variant import open_onnx
    from kdlab.exporting.torch_variant import open_torch

    if threads is not None:
        torch.set_num_threads(threads)
    found = model_folder(str(path), option)
    described = read_json(Path(found).expanduser() / DESCRIPTION)
    before = resident_bytes()
    variant: Variant
    if isinstance(described, dict) and str(described["variant"]).startswith("onnx"):
        if device != "cpu":
            raise ValueError(f"{option}={path}: ONNX variants run on the CPU; leave accelerator=cpu")
        variant = open_onnx(Path(found).expanduser(), described, threads=torch.get_num_threads(), option=option)
    else:
        variant = open_torch(found, described, device=device, dtype=dtype, option=option)
    variant.logits([[int(variant.pad_id == 0)] * 2])
    variant.memory_bytes = max(variant.held_bytes, resident_bytes() - before)
    return variant


def model_folder(path: str, option: str) -> str:
    """The folder that a path means: of a run, its `model/`, which is said. A hub id, a file and tiny: models stay as
    they are. Raises ValueError for a folder of several variants, and for a run that has no model yet."""
    folder, name = Path(path).expanduser(), f"{option}={path}"
    if not folder.is_dir():
        return path
    if any((folder / file).is_file() for file in (DESCRIPTION, "config.json", "adapter_config.json")):
        return path
    if (folder / "model" / "config.json").is_file():
        say(f"{name}: the folder of a run; taking its model/")
        return str(folder / "model")
    if (folder / "adapter" / "adapter_config.json").is_file():
        say(f"{name}: the folder of a run without model/; taking its adapter/")
        return str(folder / "adapter")
    inside = sorted(file.parent.name for file in folder.glob(f"*/{DESCRIPTION}"))
    if inside:
        raise ValueError(f"{name}: holds variants; give one of them: {', '.join(str(folder / one) for one in inside)}")
    if (folder / "run.json").is_file():
        raise ValueError(f"{name}: the folder of a run that has written no model/ yet; finish the run first")
    return path
