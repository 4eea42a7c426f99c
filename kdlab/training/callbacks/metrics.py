"""Every step and every evaluation to metrics.csv, and to TensorBoard or W&B where they were asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from kdlab.training.metrics_file import MetricsFile, Value

if TYPE_CHECKING:
    from kdlab.training.module import StepResult

HELDOUT = (
    *("rows", "tokens", "nll", "perplexity", "kl", "top1_agreement", "bits_per_byte", "divergence"),
    *("accuracy", "macro_f1", "rmse"),
)
"""The columns of an evaluation."""


class Metrics(Callback):  # type: ignore[misc]
    """Rows for `file` (None on ranks that write nothing)."""

    def __init__(self, file: MetricsFile | None, *, steps_per_epoch: int) -> None:
        self.file = file
        self.steps_per_epoch = steps_per_epoch
        self.loggers: list[Any] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.loggers = list(trainer.loggers)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        result: StepResult = pl_module.result
        row = dict(vars(result))
        row["tokens_per_second"] = result.tokens / result.seconds
        self.write(trainer.global_step, "train", row)

    def heldout(self, step: int, metrics: dict[str, float], seconds: float) -> None:
        """An evaluation that took `seconds`; metrics that have no column (the teacher's own) are in run.json."""
        row: dict[str, Value] = {k: metrics[k] for k in HELDOUT if k in metrics}
        self.write(step, "heldout", {**row, "seconds": seconds, "tokens_per_second": metrics["tokens"] / seconds})

    def write(self, step: int, phase: str, row: dict[str, Value]) -> None:
        if self.file is not None:
            self.file.write({"step": step, "epoch": step / self.steps_per_epoch, "phase": phase, **row})
        numbers = {f"{phase}/{name}": value for name, value in row.items() if isinstance(value, int | float)}
        for logger in self.loggers:
            logger.log_metrics(numbers, step=step)


def build_loggers(names: list[str], *, output_dir: Path, run_name: str, config: dict[str, Any], step: int) -> list[Any]:
    """The Lightning loggers; a run that continues at `step` writes on in its own curves."""
    return [_build(name, output_dir, run_name, config, step) for name in names]


def _build(name: str, output_dir: Path, run_name: str, config: dict[str, Any], step: int) -> Any:
    if name == "tensorboard":
        from lightning.pytorch.loggers import TensorBoardLogger

        return TensorBoardLogger(output_dir, name="tensorboard", version="", purge_step=step + 1 if step else None)
    from lightning.pytorch.loggers import WandbLogger
    from wandb import Settings

    identity = hashlib.sha256(str(output_dir.resolve()).encode()).hexdigest()[:16]
    return WandbLogger(
        project="kdlab",
        name=run_name,
        id=identity,
        save_dir=str(output_dir),
        offline=name == "wandb_offline",
        resume="allow",
        settings=Settings(quiet=True),
        config=config,
    )


def close_loggers(loggers: list[Any]) -> None:
    """End W&B's run: the next run of this process (a sweep) would be added to it."""
    for logger in loggers:
        finish = getattr(logger.experiment, "finish", None)
        if finish is not None:
            finish()
