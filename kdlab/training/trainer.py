"""Our callbacks in their order, and Lightning's Trainer set up to run them and nothing else."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment

from kdlab.training.callbacks.benchmark import Benchmark
from kdlab.training.callbacks.checkpoint import AtomicCheckpointIO, Checkpoints
from kdlab.training.callbacks.ema import Ema
from kdlab.training.callbacks.fold import FoldCallback
from kdlab.training.callbacks.manifest import ManifestWriter
from kdlab.training.callbacks.metrics import Metrics, build_monitors, close_monitors
from kdlab.training.callbacks.progress import ProgressBar
from kdlab.training.callbacks.random_state import RandomState
from kdlab.training.device import choose_precision

if TYPE_CHECKING:
    import torch

    from kdlab.training.data import DistillData
    from kdlab.training.loaded import Loaded
    from kdlab.training.manifest import Manifest
    from kdlab.training.metrics_file import MetricsFile
    from kdlab.training.module import Distiller
    from kdlab.training.recipe import TrainConfig

Found = tuple[Path, dict[str, Any]]
"""A checkpoint to continue from: where it is, and its content."""


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """In the order in which they see the end of a step: average, write the row, evaluate, save, tell. `fold` is there
    where rows have labels."""

    fold: FoldCallback | None
    random_state: RandomState
    ema: Ema | None
    metrics: Metrics
    benchmark: Benchmark
    checkpoints: Checkpoints
    manifest: ManifestWriter
    progress: ProgressBar | None

    def in_order(self) -> list[Callback]:
        return [callback for callback in vars(self).values() if callback is not None]


def build_callbacks(
    config: TrainConfig,
    loaded: Loaded,
    file: MetricsFile | None,
    *,
    folder: Path,
    options: dict[str, Any],
    manifest: Manifest | None,
) -> Callbacks:
    """`file` and `manifest` are None on ranks that write nothing."""
    counts = {"total_steps": loaded.total_steps, "steps_per_epoch": loaded.steps_per_epoch}
    ema = Ema(config.trainer.ema) if config.trainer.ema is not None else None
    metrics = Metrics(file, steps_per_epoch=loaded.steps_per_epoch)
    benchmark = Benchmark(config.trainer, loaded.data, metrics, ema, **counts)
    checkpoints = Checkpoints(
        folder,
        config.trainer.checkpoint,
        benchmark,
        metrics,
        options=options,
        data=loaded.data,
        teacher=loaded.teacher_identity,
        **counts,
    )
    return Callbacks(
        fold=loaded.fold,
        random_state=RandomState(),
        ema=ema,
        metrics=metrics,
        benchmark=benchmark,
        checkpoints=checkpoints,
        manifest=ManifestWriter(manifest, benchmark, loaded.data, steps_per_epoch=loaded.steps_per_epoch),
        progress=ProgressBar(total_steps=loaded.total_steps) if config.trainer.progress and file is not None else None,
    )


def fit(
    config: TrainConfig,
    module: Distiller,
    data: DistillData,
    callbacks: Callbacks,
    *,
    output_dir: Path,
    resolved: dict[str, Any],
    device: torch.device,
    found: Found | None,
) -> None:
    """Train to the last step, from the checkpoint `found` on."""
    several = config.trainer.devices > 1
    files = AtomicCheckpointIO()
    files.loaded = found
    names = config.trainer.loggers if callbacks.metrics.file is not None else []
    monitors = build_monitors(names, output_dir=output_dir, run_name=config.name, config=resolved)
    callbacks.metrics.monitors = monitors
    try:
        trainer = Trainer(
            accelerator="gpu" if device.type == "cuda" else device.type,
            devices=config.trainer.devices,
            strategy="ddp" if several else "auto",
            precision=choose_precision(config.trainer, device),
            max_steps=module.total_steps,
            max_epochs=-1,
            logger=[monitor.logger for monitor in monitors] or False,
            callbacks=callbacks.in_order(),
            plugins=[files] if several else [files, LightningEnvironment()],
            default_root_dir=output_dir,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            limit_val_batches=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            deterministic="warn" if device.type == "cuda" else None,
        )
        trainer.fit(module, datamodule=data, ckpt_path=found[0] if found else None, weights_only=True)
    except SystemExit as stop:
        # Lightning answers Ctrl-C with exit(1), and leaves the key without effect.
        if isinstance(stop.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from stop
        raise
    finally:
        close_monitors(monitors)


def restore(module: Distiller, callbacks: Callbacks, checkpoint: dict[str, Any], *, everything: bool) -> None:
    """Weights and their average out of a checkpoint, without training; `everything`: the evaluations too."""
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"], strict=False)
    states = checkpoint["callbacks"]
    if callbacks.ema is not None:
        callbacks.ema.load_state_dict(states[callbacks.ema.state_key])
        callbacks.ema.begin(module.student)
    if everything:
        callbacks.benchmark.load_state_dict(states[callbacks.benchmark.state_key])
        callbacks.checkpoints.last_step = checkpoint["kdlab"]["step"]
