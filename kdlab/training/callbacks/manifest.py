"""Keep run.json up to date while training, so that a report of a running or killed run has its numbers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

if TYPE_CHECKING:
    from kdlab.training.callbacks.benchmark import Benchmark
    from kdlab.training.data import DistillData
    from kdlab.training.manifest import Manifest
    from kdlab.training.module import Distiller

EVERY_SECONDS = 30.0


class ManifestWriter(Callback):  # type: ignore[misc]
    """Steps, tokens and seconds into the manifest (None: write nothing) after every evaluation and now and then."""

    def __init__(
        self, manifest: Manifest | None, benchmark: Benchmark, data: DistillData, *, steps_per_epoch: int
    ) -> None:
        self.manifest, self.benchmark, self.data, self.steps_per_epoch = manifest, benchmark, data, steps_per_epoch
        self._written = time.monotonic()
        self._evaluated_before = 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if self.manifest is not None:
            self._evaluated_before = self.manifest.content["seconds"]["evaluate"]

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        evaluated = self.benchmark.latest_step == trainer.global_step
        if self.manifest is not None and (evaluated or time.monotonic() - self._written >= EVERY_SECONDS):
            self.note(pl_module, step=trainer.global_step, evaluated_before=self._evaluated_before)
            self.manifest.write()
            self._written = time.monotonic()

    def note(self, module: Distiller, *, step: int, evaluated_before: float) -> None:
        """Put how far the training is into the manifest; `evaluated_before` seconds went into measuring before it."""
        assert self.manifest is not None
        content, progress = self.manifest.content, module.progress
        content["steps"], content["epochs"] = step, step / self.steps_per_epoch
        content["tokens"] |= {"train": progress.tokens, "supervised": progress.rows}
        content["seconds"] |= {
            "train": progress.seconds,
            "evaluate": evaluated_before + self.benchmark.seconds,
        }
        content["tokens_per_second"] = progress.tokens / progress.seconds if progress.seconds else None
        if self.data.stream_counts is not None:
            content["data"]["stream"] = self.data.stream_counts
        if self.benchmark.latest:
            content["metrics"]["after"] = {**self.benchmark.latest, "tokens_per_second": None}
