"""The finished student as a plain transformers folder, whole or not there."""

from __future__ import annotations

from errno import EIO, ENOSPC
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import save

from kdlab.durable import replace_folder, write_atomically
from kdlab.models.progress import bars_on_terminals_only
from kdlab.models.writing import is_adapted, save_adapter, save_student

if TYPE_CHECKING:
    from kdlab.models.inner import InnerLayers
    from kdlab.text.task import Task

PROJECTIONS = "projections.safetensors"


def save_model(model: Any, tokenizer: Any, run: Path, task: Task | None = None) -> int:
    """Write `run/model` (student and tokenizer, LoRA merged) and for a LoRA student `run/adapter` (peft's own form); of
    a classifier its `task` beside each.

    Returns the bytes of the student's weights on disk.
    """

    def student(beside: Path) -> None:
        with bars_on_terminals_only():
            try:
                save_student(model, tokenizer, beside, task)
            except SafetensorError as error:  # tells the system's errors in words
                raise OSError(ENOSPC if "No space left" in str(error) else EIO, str(error)) from error
        _readable(beside)

    def adapter(beside: Path) -> None:
        save_adapter(model, beside, tokenizer, task)
        _readable(beside)

    if is_adapted(model):
        replace_folder(run / "adapter", adapter)
    replace_folder(run / "model", student)
    return sum(file.stat().st_size for file in (run / "model").glob("*.safetensors"))


def save_projections(inner: InnerLayers | None, run: Path) -> str | None:
    """Write what `inner` has learned between the widths of hidden states beside the model, which has none of it.

    Returns the file's name in `run`, None where there is nothing to write.
    """
    learned = {} if inner is None else inner.learned()
    if not learned:
        return None
    content = save({name: weight.cpu().contiguous() for name, weight in learned.items()})
    write_atomically(run / PROJECTIONS, lambda file: file.write(content))
    return PROJECTIONS


def _readable(folder: Path) -> None:
    """safetensors writes files that only their owner can read."""
    mode = next(folder.glob("*config.json")).stat().st_mode
    for file in folder.glob("*.safetensors"):
        file.chmod(mode)
