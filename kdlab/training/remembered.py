"""A frozen classifier is asked once about each text: a decision is a handful of numbers, and epochs repeat the texts.

    module = Distiller(config, remembering(config, loaded, output_dir, device=device), ...)

What it said is kept beside the run and read again by whoever continues it: a run that was killed goes on bit for bit.

Shape letters: B batch, N rows, C classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from kdlab.data.loader import heldout_batches
from kdlab.durable import write_atomically
from kdlab.rows import Dense, asked
from kdlab.training.decisions import numbers

if TYPE_CHECKING:
    from torch import Tensor

    from kdlab.batch import Batch
    from kdlab.models.classifier import ClassifierSplit
    from kdlab.models.head import SplitModel
    from kdlab.rows import Signal
    from kdlab.teachers.base import Teacher
    from kdlab.training.loaded import Loaded
    from kdlab.training.pair import ModelPair
    from kdlab.training.recipe import TrainConfig

FILE = "teacher_decisions.safetensors"


class Remembered:
    """A `Teacher` that answers with what `teacher` said of each text when it was asked once; of a text that it was not
    asked about, `teacher` answers. `told_NC` are the logits, in the order of `keys` (`key_of`)."""

    def __init__(self, teacher: Teacher, keys: list[bytes], told_NC: Tensor) -> None:
        self.teacher = teacher
        self.places = {key: i for i, key in enumerate(keys)}
        self.told_NC = told_NC

    def signal(self, batch: Batch, positions_N: Tensor) -> Signal:
        found = [self.places.get(key) for key in keys_of(batch)]
        known = [place for place in found if place is not None]
        if len(known) < len(found) or len(found) != len(positions_N):
            return self.teacher.signal(batch, positions_N)
        return Dense(logits_NV=self.told_NC[known].to(batch.input_ids_BT.device))

    @property
    def model(self) -> Any:
        return self.teacher.model

    @property
    def split(self) -> SplitModel | ClassifierSplit | None:
        return self.teacher.split

    @property
    def tokenizer(self) -> Any:
        return self.teacher.tokenizer

    @property
    def description(self) -> str:
        return self.teacher.description

    @property
    def identity(self) -> str:
        return self.teacher.identity

    @property
    def disk_bytes(self) -> int | None:
        return self.teacher.disk_bytes

    @property
    def vocabulary(self) -> int:
        return self.teacher.vocabulary


def remembering(config: TrainConfig, loaded: Loaded, folder: Path, *, device: torch.device) -> ModelPair:
    """The pair, with a teacher that is asked once about every text where that saves work: a classifier here, in one
    process, whose layers no term compares, and more steps than one epoch has. A loss of labels alone asks it about the
    held-out texts only."""
    pair = loaded.pair
    alone = config.trainer.devices == 1 and loaded.inner is None
    if pair.deciding is None or pair.teacher is None or pair.teacher.model is None or not alone:
        return pair
    if loaded.total_steps <= loaded.steps_per_epoch:
        return pair
    about = [pair.teacher.identity, *loaded.data.hashes.values(), config.benchmark.tokens, config.trainer.batch_size]
    about.append(config.loss.asks_teacher)
    identity = hashlib.sha256(repr(about).encode()).hexdigest()
    batches = _texts(loaded, config)
    keys = [key for batch in batches for key in keys_of(batch)]
    told_NC = _read(folder / FILE, identity)
    if told_NC is None or len(told_NC) != len(keys):
        told_NC = _asked(pair.teacher, batches, device)
        content = save({identity: told_NC.contiguous()})
        write_atomically(folder / FILE, lambda file: file.write(content))
    return replace(pair, teacher=Remembered(pair.teacher, keys, told_NC))


def keys_of(batch: Batch) -> list[bytes]:
    """The token ids of each text that is labelled, without padding; none of a filler."""
    assert batch.attention_mask_BT is not None
    asked_B = asked(batch.labels_BT[:, 0])
    ids_BT, mask_BT = batch.input_ids_BT.cpu(), batch.attention_mask_BT.cpu().bool()
    return [ids_BT[b][mask_BT[b]].numpy().tobytes() for b in torch.nonzero(asked_B.cpu())[:, 0].tolist()]


def _texts(loaded: Loaded, config: TrainConfig) -> list[Batch]:
    """Every text as the teacher reads it, in an order that depends on the data alone: its rounding then does too."""
    store: Any = loaded.data.data.train
    train = heldout_batches(store, batch_size=config.trainer.batch_size, pad_id=loaded.data.pad_id)
    every: Iterable[Batch] = chain(train if config.loss.asks_teacher else (), loaded.data.heldout())
    return [batch.teacher or batch for batch in every]


def _asked(teacher: Teacher, batches: list[Batch], device: torch.device) -> Tensor:
    told = []
    with torch.no_grad():
        for batch in batches:
            positions_N = torch.arange(batch.rows, device=device)
            told.append(numbers(teacher.signal(batch.to(device), positions_N)).cpu())
    return torch.cat(told)


def _read(file: Path, identity: str) -> Tensor | None:
    """What was kept for the same teacher and texts; None where there is none, or it is damaged."""
    try:
        return load_file(file).get(identity)
    except (OSError, SafetensorError):
        return None
