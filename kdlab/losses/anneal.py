"""Anneal: an option that moves from its value to another while training goes on. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi

SHAPES = ("linear", "cosine")


@dataclass(kw_only=True)
class Anneal:
    """From the option's own value to `to`, between the shares `start` and `end` of training (0 to 1), by `shape`."""

    to: float = 0.0
    shape: str = "linear"
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"anneal.shape={self.shape}: must be one of {', '.join(SHAPES)}")
        if not 0 <= self.start < self.end <= 1:
            raise ValueError(
                f"anneal.start={self.start}, anneal.end={self.end}: shares of training, 0 <= start < end <= 1"
            )

    def at(self, value: float, progress: float) -> float:
        """Where `value` has got to at `progress` (0 at the first step, 1 at the last)."""
        way = min(max((progress - self.start) / (self.end - self.start), 0.0), 1.0)
        if self.shape == "cosine":
            way = (1 - cos(pi * way)) / 2
        return value + (self.to - value) * way
