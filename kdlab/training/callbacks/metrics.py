"""Every step and every evaluation to metrics.csv, and to TensorBoard or W&B where they were asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from kdlab.training.metrics_file import MetricsFile, Value
from kdlab.training.stopping import RunFailed

if TYPE_CHECKING:
    from kdlab.training.module import StepResult

HELDOUT = (
    *("rows", "tokens", "nll", "perplexity", "kl", "top1_agreement", "bits_per_byte", "divergence"),
    *("accuracy", "macro_f1", "rmse"),
)
"""The columns of an evaluation."""


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """A Lightning `logger` besides metrics.csv, and whether its curves begin with this process."""

    logger: Any
    begins: bool


class Metrics(Callback):  # type: ignore[misc]
    """Rows for `file` (None on ranks that write nothing), and for `monitors` from the moment that training starts."""

    def __init__(self, file: MetricsFile | None, *, steps_per_epoch: int) -> None:
        self.file = file
        self.steps_per_epoch = steps_per_epoch
        self.monitors: list[Monitor] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """What lies in the file already goes to the monitors that do not have it: the evaluation before training, and
        the steps before a run was continued."""
        if self.file is not None:
            for monitor in self.monitors:
                for row in self.file.rows() if monitor.begins else ():
                    _log(monitor, row)

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
        for monitor in self.monitors:
            _log(monitor, {"step": step, "phase": phase, **row})


def _log(monitor: Monitor, row: Mapping[str, Value]) -> None:
    """A row's numbers, by the names that curves have: train/loss."""
    numbers = {
        f"{row['phase']}/{name}": value
        for name, value in row.items()
        if isinstance(value, int | float) and name not in ("step", "epoch")
    }
    monitor.logger.log_metrics(numbers, step=row["step"])


def build_monitors(names: list[str], *, output_dir: Path, run_name: str, config: dict[str, Any]) -> list[Monitor]:
    """One for each of `trainer.loggers`. A run that is continued is drawn anew in TensorBoard, and writes on in W&B's
    own curve, where steps after the checkpoint come twice, with the same numbers.

    W&B's files of a process without a network are a run of their own, so each holds the whole curve: `wandb sync` the
    latest. Raises RunFailed, in one line, where W&B cannot be reached or has no key.
    """
    return [
        _tensorboard(output_dir)
        if name == "tensorboard"
        else _wandb(output_dir, run_name, config, offline=name == "wandb_offline")
        for name in names
    ]


def _tensorboard(output_dir: Path) -> Monitor:
    from lightning.pytorch.loggers import TensorBoardLogger

    purge = 0 if (output_dir / "tensorboard").is_dir() else None  # what a killed process drew is drawn again
    logger = TensorBoardLogger(output_dir, name="tensorboard", version="", purge_step=purge)
    return Monitor(logger=logger, begins=True)


def _wandb(output_dir: Path, run_name: str, config: dict[str, Any], *, offline: bool) -> Monitor:
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    try:
        run = wandb.init(
            project="kdlab",
            name=run_name,
            id=hashlib.sha256(str(output_dir.resolve()).encode()).hexdigest()[:16],
            dir=str(output_dir),
            mode="offline" if offline else None,  # None: what WANDB_MODE says
            resume="allow",
            settings=wandb.Settings(quiet=True),
            config=config,
        )
    except wandb.errors.Error as error:
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise RunFailed(
            f"trainer.loggers=[wandb]: W&B takes no run ({words[0].rstrip('.')}); set WANDB_API_KEY, or write "
            "trainer.loggers=[wandb_offline]; the same command goes on here"
        ) from error
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return Monitor(logger=WandbLogger(experiment=run, save_dir=str(output_dir)), begins=not run.resumed)


def close_monitors(monitors: list[Monitor]) -> None:
    """End W&B's run: the next run of this process (a sweep) would be added to it."""
    for monitor in monitors:
        finish = getattr(monitor.logger.experiment, "finish", None)
        if finish is not None:
            finish()
