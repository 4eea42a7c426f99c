"""The findings about disk space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.preflight.disk import predict_disk
from kdlab.preflight.findings import Section, size
from kdlab.preflight.sketch import Sketches

if TYPE_CHECKING:
    from kdlab.training.recipe import TrainConfig


def say_disk(section: Section, config: TrainConfig, models: Sketches, output_dir: Path) -> dict[str, Any]:
    """What is written, where, and whether there is room. Returns the numbers."""
    found = predict_disk(config, models, output_dir)
    kept = "last, best and one being written" if config.trainer.checkpoint.best else "last and one being written"
    parts = f"checkpoints {size(found.checkpoints)} ({kept}), model {size(found.model)}"
    line = f"{size(found.output)} in {output_dir}: {parts}; free {size(found.free)}"
    if found.output > found.free:
        remedy = "make room, or trainer.checkpoint.best=false; student.lora.r=8; optimizer=adafactor"
        section.say("failure", f"{line}: no room", remedy)
    else:
        section.say("ok", line)
    if found.downloads > found.cache_free:
        needs = (
            f"{size(found.downloads)} of models are to be downloaded, and the cache has {size(found.cache_free)} free"
        )
        section.say("failure", needs, "make room in the cache of models")
    elif found.downloads:
        section.say("note", f"{size(found.downloads)} of models are to be downloaded first")
    return found.as_dict()
