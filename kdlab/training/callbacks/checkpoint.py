"""Checkpoints that a killed run continues from: `last.ckpt` and `best.ckpt`, each whole or not there.

A checkpoint is written after everything else of its step (rows of metrics.csv, evaluation), so that to continue from it
is to begin the next step.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback

from kdlab.durable import disk_is_full, write_atomically
from kdlab.training.options import refuse_changes
from kdlab.training.stopping import RunFailed

if TYPE_CHECKING:
    from kdlab.training.callbacks.benchmark import Benchmark
    from kdlab.training.callbacks.metrics import Metrics
    from kdlab.training.data import DistillData
    from kdlab.training.recipe import CheckpointConfig

LAST, BEST = "last.ckpt", "best.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):  # type: ignore[misc]
    """Writes a checkpoint beside its place and renames it; reads plain values and tensors only.

    `loaded` is the checkpoint that the run has already read and checked, so that Lightning need not read it again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loaded: tuple[Path, dict[str, Any]] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        write_atomically(Path(path), lambda file: torch.save(checkpoint, file))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        if self.loaded is not None and self.loaded[0] == Path(path):
            checkpoint, self.loaded = self.loaded[1], None
            return checkpoint
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint, on the CPU. Raises ValueError where the file is cut short or damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load checks no checksums
        if damaged is not None:
            raise ValueError(f"{damaged} is damaged")
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if "kdlab" not in checkpoint:
            raise ValueError("not a checkpoint of kdlab")
    except (zipfile.BadZipFile, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()
        raise ValueError(f"{path}: cannot be read ({reason[0] if reason else type(error).__name__})") from error
    return checkpoint


def find_checkpoint(folder: Path, *, options: dict[str, Any]) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint to continue from, or None where the run has none.

    `last.ckpt`, or where that is damaged `best.ckpt`, which is said. Raises ValueError where both are damaged, or where
    the run that wrote it had other options (`options` is `options.binding` of the config).
    """
    problems = []
    for name in (LAST, BEST):
        path = folder / name
        if not path.exists():
            continue
        try:
            checkpoint = read_checkpoint(path)
        except ValueError as error:
            problems.append(str(error))
            continue
        refuse_changes(
            json.loads(checkpoint["kdlab"]["options"]), options, what=f"the checkpoint {name}", where=str(folder.parent)
        )
        for problem in problems:
            print(f"{problem}; continuing from {path}, step {checkpoint['kdlab']['step']}")
        if name == LAST and checkpoint["kdlab"]["best_step"] == checkpoint["kdlab"]["step"]:
            _link(path, folder / BEST)  # the process may have died between the two
        return path, checkpoint
    if problems:
        raise ValueError(f"{problems[0]}; delete {folder} to begin again")
    return None


def _link(source: Path, target: Path) -> None:
    """Let `target` be `source`, atomically and, where the file system can, without copying."""
    beside = target.with_name(f".{target.name}.linking")
    beside.unlink(missing_ok=True)
    try:
        os.link(source, beside)
    except OSError:
        with source.open("rb") as original:
            write_atomically(beside, lambda file: shutil.copyfileobj(original, file))
    beside.replace(target)


class Checkpoints(Callback):  # type: ignore[misc]
    """Writes `last.ckpt` by the rules, at a new best (then `best.ckpt` too) and after the last step.

    `options` (of `options.binding`), the content hashes of `data` and the identity of the `teacher` (None: there is
    none) are stored, to refuse a run that changed them.
    """

    def __init__(
        self,
        folder: Path,
        rules: CheckpointConfig,
        benchmark: Benchmark,
        metrics: Metrics,
        *,
        options: dict[str, Any],
        data: DistillData,
        teacher: str | None,
        total_steps: int,
        steps_per_epoch: int,
    ) -> None:
        self.folder, self.rules, self.benchmark, self.metrics = folder, rules, benchmark, metrics
        self.options, self.data, self.teacher = options, data, teacher
        self.total_steps, self.steps_per_epoch = total_steps, steps_per_epoch
        self.last_step, self.last_path = 0, folder / LAST
        self._saved_at = time.monotonic()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.last_step, self.last_path = trainer.global_step, Path(trainer.ckpt_path or self.last_path)
        self._saved_at = time.monotonic()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        best = self.rules.best and self.benchmark.best_step == step
        if best or self.due(step) or trainer.should_stop or self._minutes_are_over(trainer):
            self.save(trainer)
            if best and trainer.is_global_zero:
                _link(self.folder / LAST, self.folder / BEST)

    def due(self, step: int) -> bool:
        rules = self.rules
        by_steps = rules.every_steps is not None and step % rules.every_steps == 0
        by_epochs = rules.every_epochs is not None and step % (rules.every_epochs * self.steps_per_epoch) == 0
        return by_steps or by_epochs or step == self.total_steps

    def _minutes_are_over(self, trainer: Any) -> bool:
        minutes = self.rules.every_minutes
        if minutes is None:
            return False
        over = time.monotonic() - self._saved_at >= 60 * minutes
        # The clocks of the ranks differ, and all must save together.
        return bool(trainer.strategy.broadcast(over)) if trainer.world_size > 1 else over

    def save(self, trainer: Any) -> None:
        if self.metrics.file is not None:
            self.metrics.file.sync()
        try:
            trainer.save_checkpoint(self.folder / LAST)
        except (OSError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise RunFailed(
                f"step {trainer.global_step}: the checkpoint could not be written to {self.folder} ({reason}); "
                f"{self.last_good()}. {'Make room and rerun' if disk_is_full(error) else 'Rerun'} the same command"
            ) from error
        self.last_step, self.last_path = trainer.global_step, self.folder / LAST
        self._saved_at = time.monotonic()

    def last_good(self) -> str:
        """Where a run that fails now would continue."""
        if not self.last_step:
            return "there is no earlier checkpoint"
        return f"last good checkpoint: {self.last_path} of step {self.last_step}"

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["kdlab"] = {
            "schema": 1,
            "step": trainer.global_step,
            "best_step": self.benchmark.best_step if self.rules.best else 0,
            "complete": trainer.global_step == self.total_steps or self.benchmark.stopped,
            "options": json.dumps(self.options),
            "data": self.data.hashes,
            "teacher": self.teacher,
            "stream": self.data.stream_counts,
        }
