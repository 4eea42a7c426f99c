"""An exponential moving average of the trained weights, for evaluation and for the final model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor, nn


def trainable(student: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in student.named_parameters() if parameter.requires_grad}


class Ema(Callback):  # type: ignore[misc]
    """`average = d * average + (1 - d) * weights` after every optimiser step that moved them, kept in float32.

    d is `decay`, but no more than (1 + n) / (10 + n) after n steps, so that a short run does not end as its beginning
    (the schedule of TensorFlow's ExponentialMovingAverage). It begins as the weights before training.
    """

    def __init__(self, decay: float) -> None:
        assert 0 < decay < 1
        self.decay = decay
        self.steps = 0
        self.average: dict[str, Tensor] = {}

    @torch.no_grad()
    def begin(self, student: nn.Module) -> None:
        """Take the weights as they are, unless a checkpoint was loaded; and go where they live."""
        weights = trainable(student)
        self.average = {
            name: self.average.get(name, weight).detach().to(device=weight.device, dtype=torch.float32, copy=True)
            for name, weight in weights.items()
        }

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, weight in trainable(student).items():
            self.average[name].lerp_(weight.detach().float(), 1 - decay)

    @torch.no_grad()
    def copy_to(self, student: nn.Module) -> None:
        for name, weight in trainable(student).items():
            weight.copy_(self.average[name])

    @contextmanager
    def applied(self, student: nn.Module) -> Iterator[None]:
        """The student with the averaged weights, for the time of the block."""
        live = {name: weight.detach().clone() for name, weight in trainable(student).items()}
        self.copy_to(student)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in trainable(student).items():
                    weight.copy_(live[name])

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.begin(pl_module.student)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not pl_module.skipped:
            self.update(pl_module.student)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "average": self.average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps, self.average = state_dict["steps"], state_dict["average"]
