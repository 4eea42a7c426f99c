"""What a run writes, and whether there is room for it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.models.places import cache_folder
from kdlab.preflight.sketch import Sketches
from kdlab.preflight.weights import gradient_bytes, state_bytes

if TYPE_CHECKING:
    from kdlab.training.recipe import TrainConfig

BESIDES = 4 * 2**20
"""Configs, tokenizer, metrics, samples and the page."""


@dataclass(frozen=True, kw_only=True)
class Disk:
    """Bytes of one checkpoint, of `checkpoints/` at its fullest, of `model/` (and `adapter/`), and of models that are
    not here yet; free bytes of the folder of runs and of the cache."""

    checkpoint: int
    checkpoints: int
    model: int
    downloads: int
    free: int
    cache_free: int

    @property
    def output(self) -> int:
        return self.checkpoints + self.model + BESIDES

    def as_dict(self) -> dict[str, Any]:
        return {
            "checkpoint_bytes": self.checkpoint,
            "output_bytes": self.output,
            "model_bytes": self.model,
            "download_bytes": self.downloads,
            "free_bytes": self.free,
            "cache_free_bytes": self.cache_free,
        }


def predict_disk(config: TrainConfig, models: Sketches, output_dir: Path) -> Disk:
    """A checkpoint holds the trainable weights, the optimiser's state and the average of the weights. `last.ckpt` and
    `best.ckpt` stay, and a third is being written beside them."""
    student, trainer = models.student, config.trainer
    trainable = student.trainable
    weights = gradient_bytes(trainable)
    average = sum(4 * p.numel() for p in trainable) if trainer.ema is not None else 0
    checkpoint = weights + state_bytes(config.optimizer, trainable) + average
    adapters = weights if config.student.lora is not None else 0
    whole = student.size.bytes
    others = (side for side in (models.teacher, models.lender) if side is not None)
    downloads = student.missing_bytes + sum(side.missing_bytes for side in others)
    return Disk(
        checkpoint=checkpoint,
        checkpoints=checkpoint * (3 if trainer.checkpoint.best else 2),
        model=whole + adapters,
        downloads=downloads,
        free=shutil.disk_usage(existing(output_dir)).free,
        cache_free=shutil.disk_usage(existing(cache_folder(config.dataset.cache_dir))).free,
    )


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    folder = folder.expanduser().absolute()
    return folder if folder.is_dir() or folder == folder.parent else existing(folder.parent)
