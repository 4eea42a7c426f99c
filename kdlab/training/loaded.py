"""Loaded: what a run works on, once models and data are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdlab.models.inner import InnerLayers
    from kdlab.training.callbacks.fold import FoldCallback
    from kdlab.training.data import DistillData
    from kdlab.training.pair import ModelPair


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What a run works on."""

    pair: ModelPair
    inner: InnerLayers | None
    tokenizer: Any
    data: DistillData
    fold: FoldCallback | None
    steps_per_epoch: int
    total_steps: int

    @property
    def teacher_identity(self) -> str | None:
        return None if self.pair.teacher is None else self.pair.teacher.identity
