"""Learning from labels alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kdlab.losses.base import RowLoss


@dataclass(kw_only=True)
class Hard(RowLoss):
    """CE(q, label) = -log q(label) at T = 1: plain fine-tuning, no teacher read. `temperature` has no effect."""

    hard_weight: float = 1.0

    needs_teacher: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hard_weight != 1:
            raise ValueError(f"loss.hard_weight={self.hard_weight}: loss=hard has no other term; leave it at 1")
