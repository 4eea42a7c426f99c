"""What a step is made of: how many positions, tokens and supervised rows, read off real batches."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch

from kdlab.batch import Batch, Step
from kdlab.data.store import TokenStore
from kdlab.preflight.live import Shape

if TYPE_CHECKING:
    from kdlab.training.data import DistillData
    from kdlab.training.recipe import TrainConfig

STEPS = 64
SECONDS = 3.0
"""How many steps are looked at, and for how long at most."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one model reads in an average step (`evaluation`: in one pass over the held-out data): `positions` with
    padding, `source` positions of a seq2seq encoder, `rows` predictions."""

    positions: float
    rows: float
    source: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Steps, and what each costs. `student` and `teacher` differ where each has its own tokenizer or prompt. `largest`
    and `heldout` are the largest micro-batches met in training and in evaluation."""

    steps: int
    steps_per_epoch: int | None
    tokens_per_step: float
    student: Reading
    teacher: Reading
    student_evaluation: Reading
    teacher_evaluation: Reading
    largest: Shape
    teacher_largest: Shape
    heldout: Shape
    teacher_heldout: Shape
    batches: list[Batch]

    @property
    def tokens(self) -> float:
        return self.steps * self.tokens_per_step


def workload(config: TrainConfig, data: DistillData) -> Workload:
    """Look at the first steps of training and at the held-out data. Raises as the loader does."""
    loader = data.loader(rank=0, world=config.trainer.devices)
    steps = _for_a_while(islice(loader, STEPS))
    known = isinstance(data.data.train, TokenStore)
    per_epoch = len(loader) if known else None
    total = config.trainer.max_steps or config.trainer.max_epochs * len(loader)
    batches = [batch for step in steps for batch in step]
    heldout = list(data.heldout())
    stores = [data.data.train, data.data.train.teacher] if isinstance(data.data.train, TokenStore) else [None, None]
    longest, theirs_longest = (0 if store is None else int(store.lengths.max()) for store in stores)
    return Workload(
        steps=total,
        steps_per_epoch=per_epoch,
        tokens_per_step=sum(batch.tokens for batch in batches) / len(steps),
        student=_reading(batches, len(steps)),
        teacher=_reading(_theirs(batches), len(steps)),
        student_evaluation=_reading(heldout, 1),
        teacher_evaluation=_reading(_theirs(heldout), 1),
        largest=_largest(batches, at_least=0 if config.dataset.pack else longest),
        teacher_largest=_largest(_theirs(batches), at_least=theirs_longest),
        heldout=_largest(heldout),
        teacher_heldout=_largest(_theirs(heldout)),
        batches=batches,
    )


def _for_a_while(steps: Iterable[Step]) -> list[Step]:
    began, found = time.monotonic(), []
    for step in steps:
        found.append(step)
        if time.monotonic() - began > SECONDS:
            break
    assert found, "a loader yields a step"
    return found


def _theirs(batches: list[Batch]) -> list[Batch]:
    """The batches as the teacher reads them."""
    return [batch.teacher if batch.teacher is not None else batch for batch in batches]


def _reading(batches: list[Batch], parts: int) -> Reading:
    return Reading(
        positions=sum(batch.labels_BT.numel() for batch in batches) / parts,
        rows=sum(batch.rows for batch in batches) / parts,
        source=sum(0 if batch.shift else batch.input_ids_BT.numel() for batch in batches) / parts,
    )


def _largest(batches: list[Batch], *, at_least: int = 0) -> Shape:
    """A shape that none of `batches` exceeds; causal ones are at least so wide, with as large a part of it supervised:
    the longest example of all comes sooner or later."""
    widths = torch.tensor([batch.labels_BT.shape[1] for batch in batches])
    width = int(widths.max())
    rows = max(batch.rows for batch in batches)
    source = None if batches[0].shift else max(batch.input_ids_BT.shape[1] for batch in batches)
    if source is None and at_least > width:
        rows = rows * at_least // width
        width = at_least
    return Shape(
        batch=max(batch.labels_BT.shape[0] for batch in batches), width=width, rows=max(rows, 1), source=source
    )
