"""Learning-rate schedules, counted in optimiser steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR

KINDS = ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup")


@dataclass(kw_only=True)
class SchedulerConfig:
    """`kind`: linear, cosine, cosine_with_restarts, polynomial, constant, constant_with_warmup.

    Warm-up is `warmup_steps` optimiser steps, or where that is None `warmup_ratio` of all optimiser steps. The four
    that decay end at `end_lr_ratio` of the learning rate. `cycles` is for cosine_with_restarts, `power` for polynomial.
    """

    kind: str = "linear"
    warmup_ratio: float = 0.0
    warmup_steps: int | None = None
    cycles: int = 1
    power: float = 1.0
    end_lr_ratio: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"scheduler.kind={self.kind}: must be one of {', '.join(KINDS)}")
        if not 0 <= self.warmup_ratio <= 1:
            raise ValueError(f"scheduler.warmup_ratio={self.warmup_ratio}: must be between 0 and 1")
        if self.warmup_steps is not None and self.warmup_steps < 0:
            raise ValueError(f"scheduler.warmup_steps={self.warmup_steps}: must be null or at least 0")
        if self.kind == "constant" and (self.warmup_steps or self.warmup_ratio):
            raise ValueError("scheduler.kind=constant: has no warm-up; use scheduler.kind=constant_with_warmup")
        if self.cycles < 1:
            raise ValueError(f"scheduler.cycles={self.cycles}: must be at least 1")
        if not self.power > 0:
            raise ValueError(f"scheduler.power={self.power}: must be > 0")
        if not 0 <= self.end_lr_ratio <= 1:
            raise ValueError(f"scheduler.end_lr_ratio={self.end_lr_ratio}: must be between 0 and 1")


def warmup(config: SchedulerConfig, total: int) -> int:
    """Warm-up in optimiser steps. Raises ValueError where it is longer than the whole training."""
    if config.warmup_steps is None:
        return math.ceil(config.warmup_ratio * total)
    if config.warmup_steps > total:
        raise ValueError(f"scheduler.warmup_steps={config.warmup_steps}: this run has only {total} optimiser steps")
    return config.warmup_steps


def factor(config: SchedulerConfig, step: int, total: int) -> float:
    """What the learning rate is multiplied by in the optimiser step after `step` others, `0 <= step <= total`.

    Warm-up of w steps: (step + 1) / (w + 1), so that no step is wasted on a rate of 0 and step w has the full rate.
    After it, with x = (step - w) / (total - w) from 0 to 1 and e = `end_lr_ratio`: e + (1 - e) * shape(x), which is
    exactly e once all `total` steps are done. The shapes are those of transformers: linear 1 - x, polynomial
    (1 - x)^power, cosine (1 + cos(pi x)) / 2, and that cosine restarted `cycles` times.
    """
    w = warmup(config, total)
    if step < w:
        return (step + 1) / (w + 1)
    if config.kind in ("constant", "constant_with_warmup"):
        return 1.0
    x = (step - w) / (total - w) if step < total else 1.0
    return config.end_lr_ratio + (1 - config.end_lr_ratio) * _shape(config, x)


def _shape(config: SchedulerConfig, x: float) -> float:
    if config.kind == "linear":
        return 1 - x
    if config.kind == "polynomial":
        return float((1 - x) ** config.power)
    if config.kind == "cosine_with_restarts" and x < 1:
        x = config.cycles * x % 1
    return (1 + math.cos(math.pi * x)) / 2


def build_scheduler(config: SchedulerConfig, optimizer: Optimizer, *, total: int) -> LambdaLR:
    """The schedule over `total` optimiser steps; call `.step()` after each."""
    from torch.optim.lr_scheduler import LambdaLR

    warmup(config, total)
    return LambdaLR(optimizer, lambda step: factor(config, step, total))
