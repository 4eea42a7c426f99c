"""Inner layers of a student and its teacher, caught while they read a batch, and the terms over them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from kdlab.batch import Batch
    from kdlab.losses.inner import InnerConfig
    from kdlab.models.head import SplitModel


class InnerLayers(nn.Module):
    """Projections are its only parameters."""

    def __init__(self, config: InnerConfig, student: SplitModel, teacher: SplitModel, *, seed: int) -> None:
        super().__init__()
        self.config = config

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within, the forward passes of student and teacher are listened to; at the end everything is let go."""
        yield

    def loss(self, batch: Batch, *, progress: float, count: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Σ weight * term / count, and each term's plain sum by name. Only inside `listening`."""
        raise TypeError("not written yet")
