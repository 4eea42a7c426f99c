"""What a step is made of: how many positions, tokens and supervised rows, read off real batches."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import torch

from kdlab.batch import Batch, Step
from kdlab.data.stream import TokenStream
from kdlab.preflight.live import Shape

if TYPE_CHECKING:
    from kdlab.training.data import DistillData
    from kdlab.training.recipe import TrainConfig

STEPS = 64
SECONDS = 3.0
"""How many steps are looked at, and for how long at most."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one model reads in an average step (`evaluation`: in one pass over the held-out data; `test`: over what is
    judged by at the end alone): `positions` with padding, `source` positions of a seq2seq encoder, and `rows`
    predictions."""

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
    student_test: Reading = field(default_factory=lambda: Reading(positions=0, rows=0))
    teacher_test: Reading = field(default_factory=lambda: Reading(positions=0, rows=0))

    @property
    def tokens(self) -> float:
        return self.steps * self.tokens_per_step


def workload(config: TrainConfig, data: DistillData) -> Workload:
    """Look at the first steps of training and at the held-out data. Raises as the loader does."""
    loader = data.loader(rank=0, world=config.trainer.devices)
    steps = _for_a_while(islice(loader, STEPS))
    known = not isinstance(data.data.train, TokenStream)
    per_epoch = len(loader) if known else None
    total = config.trainer.max_steps or config.trainer.max_epochs * len(loader)
    batches = [batch for step in steps for batch in step]
    heldout, test = list(data.heldout()), list(data.test())
    train = data.data.train
    stores = [None, None] if isinstance(train, TokenStream) else [train, train.teacher]
    longest, theirs_longest = (0 if store is None else int(store.lengths.max()) for store in stores)
    return Workload(
        steps=total,
        steps_per_epoch=per_epoch,
        tokens_per_step=sum(batch.tokens for batch in batches) / len(steps),
        student=_reading(batches, len(steps)),
        teacher=_reading(_theirs(batches), len(steps)),
        student_evaluation=_reading(heldout, 1),
        teacher_evaluation=_reading(_theirs(heldout), 1),
        student_test=_reading(test, 1),
        teacher_test=_reading(_theirs(test), 1),
        largest=_largest(batches, at_least=0 if config.dataset.pack else longest),
        teacher_largest=_largest(_theirs(batches), at_least=theirs_longest),
        heldout=_largest([*heldout, *test]),
        teacher_heldout=_largest(_theirs([*heldout, *test])),
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
        positions=sum(_read(batch).numel() for batch in batches) / parts,
        rows=sum(batch.rows for batch in batches) / parts,
        source=sum(batch.input_ids_BT.numel() for batch in batches if _encodes(batch)) / parts,
    )


def _read(batch: Batch) -> torch.Tensor:
    """The positions [B, T] that a causal model reads, or a decoder writes."""
    return batch.input_ids_BT if batch.decides else batch.labels_BT


def _encodes(batch: Batch) -> bool:
    """Whether an encoder reads apart from what a decoder writes."""
    return not batch.shift and not batch.decides


def _largest(batches: list[Batch], *, at_least: int = 0) -> Shape:
    """A shape that none of `batches` exceeds; causal ones are at least so wide, with as large a part of it supervised:
    the longest example of all comes sooner or later."""
    widths = torch.tensor([_read(batch).shape[1] for batch in batches])
    width = int(widths.max())
    rows = max(batch.rows for batch in batches)
    source = max(batch.input_ids_BT.shape[1] for batch in batches) if _encodes(batches[0]) else None
    if source is None and at_least > width:
        rows = rows if batches[0].decides else rows * at_least // width
        width = at_least
    return Shape(
        batch=max(batch.labels_BT.shape[0] for batch in batches), width=width, rows=max(rows, 1), source=source
    )
