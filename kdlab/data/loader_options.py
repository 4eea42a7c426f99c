"""How a loader turns examples into the steps of one rank."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LoaderOptions:
    """A step of the whole job takes `batch_size * accumulate * world` units, a micro-batch `batch_size` of them.

    The order is a function of `seed` and epoch alone. `pack` fills rows of the longest length with whole examples (the
    same bins in every epoch, in another order); `group_by_length` batches examples of like length. Padding, with
    `pad_id`, is on the right. A stream needs `max_steps` (`trainer.max_steps`).
    """

    batch_size: int
    accumulate: int = 1
    seed: int = 0
    pad_id: int
    pack: bool = False
    group_by_length: bool = False
    rank: int = 0
    world: int = 1
    workers: int = 0
    max_steps: int | None = None

    def __post_init__(self) -> None:
        assert 0 <= self.rank < self.world
        assert not (self.pack and self.group_by_length)

    @property
    def per_step(self) -> int:
        return self.batch_size * self.accumulate * self.world
