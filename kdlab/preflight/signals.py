"""What a teacher that is no model here takes: the head of a hidden codec, the signals of a batch, and their products.

Shape letters: N rows, V vocabulary, H hidden, K entries kept of a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdlab.models import dtype as dtypes
from kdlab.teachers.cached import CachedTeacher

if TYPE_CHECKING:
    import torch

    from kdlab.preflight.sketch import Sketches
    from kdlab.training.recipe import TrainConfig

KEPT = 12
"""Bytes of an entry that is kept: its id in 64 bits and its log-probability or weight in 32."""
DECODED = 2
"""Copies of a batch's signals while they are decoded."""


@dataclass(frozen=True, kw_only=True)
class Signals:
    """Bytes: of the head that hidden states are multiplied with, where these are kept, and of a row's signal."""

    head: int = 0
    row: int = 0


def signals_of(config: TrainConfig, models: Sketches, device: torch.device) -> Signals:
    """What the signals of `models.told` take; nothing where the teacher is a model, or there is none."""
    if models.told is None:
        return Signals()
    if not isinstance(models.told, CachedTeacher):
        k = config.teacher.server.k if config.teacher.server is not None else 1
        return Signals(row=KEPT * k)
    manifest = models.told.cache.manifest
    name, V, H = manifest.codec["name"], manifest.vocabulary, manifest.hidden
    if name == "hidden":
        saved = dtypes.resolve(manifest.teacher["dtype"], device).itemsize
        # It is widened once to the float32 of the hidden states; what was read stays too, on a GPU's host.
        both = saved != 4 and device.type != "cuda"
        return Signals(head=V * H * (4 + saved * both), row=4 * H)
    if name == "dense":
        return Signals(row=4 * V)
    return Signals(row=KEPT * sum(int(manifest.codec.get(option, 0)) for option in ("k", "draws")))


def kept_hidden(models: Sketches) -> int:
    """The width of the hidden states that a cache keeps; 0 where it keeps none."""
    told = models.told
    if not isinstance(told, CachedTeacher) or told.cache.codec.name != "hidden":
        return 0
    return told.cache.manifest.hidden
