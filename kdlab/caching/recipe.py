"""What a caching job is told: all that a training job is, so that both ask for the same, and how to keep it."""

from __future__ import annotations

from dataclasses import dataclass, field

from kdlab.limits import at_least
from kdlab.teachers.codecs import Codec
from kdlab.teachers.codecs.hidden import HiddenCodec
from kdlab.training.recipe import TrainConfig


@dataclass(kw_only=True)
class CacheConfig(TrainConfig):
    """`output` is where the cache is written, a folder or an fsspec URL (None: the folder of the job,
    multirun/<name>/signals/<what was overridden>).

    `shard_rows` is how many rows a shard holds at least: what a killed process may lose, and what one process of
    several takes at a time. `fidelity_rows` rows of the held-out examples are decoded again and compared with the
    teacher (0: none).
    """

    name: str = "cache"
    codec: Codec = field(default_factory=HiddenCodec)
    output: str | None = None
    shard_rows: int = 16384
    fidelity_rows: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output is not None and not self.output.strip():
            raise ValueError("output=: is empty; write output=<folder or URL>, or leave it out")
        at_least("shard_rows", self.shard_rows, 1)
        at_least("fidelity_rows", self.fidelity_rows, 0)
