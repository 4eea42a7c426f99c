"""Held-out evaluation while training: which checkpoint is the best, and when to stop early."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from kdlab.training.callbacks.ema import Ema
from kdlab.training.callbacks.metrics import Metrics
from kdlab.training.evaluation import heldout_metrics
from kdlab.training.recipe import HIGHER

if TYPE_CHECKING:
    from kdlab.training.data import DistillData
    from kdlab.training.recipe import TrainerConfig


def better(monitor: str, new: float, old: float | None, *, by: float = 0.0) -> bool:
    """Whether `new` improves on `old` by more than `by`. A nan never does."""
    if old is None:
        return new == new
    return new - old > by if monitor in HIGHER else old - new > by


class Benchmark(Callback):  # type: ignore[misc]
    """Evaluates every `trainer.evaluate_every` steps (None: at every epoch's end) and after the last step.

    `latest` and `best` are the metrics of the last and of the best evaluation, {} before the first. Every rank
    evaluates the whole split: all get the same numbers, and none waits for another.
    """

    def __init__(
        self,
        config: TrainerConfig,
        data: DistillData,
        metrics: Metrics,
        ema: Ema | None,
        *,
        total_steps: int,
        steps_per_epoch: int,
    ) -> None:
        self.config, self.data, self.metrics, self.ema = config, data, metrics, ema
        self.total_steps = total_steps
        self.every = config.evaluate_every or steps_per_epoch
        self.latest: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self.latest_step = self.best_step = 0
        self.reference: float | None = None
        self.waited = 0
        self.stopped = False
        self.seconds = 0.0

    def monitored(self, monitor: str, metrics: dict[str, float]) -> float:
        """The value of a monitor; "auto" is `kl` where student and teacher share a vocabulary or classes, else `nll`,
        and `rmse` of a regression."""
        if monitor == "auto":
            monitor = next(name for name in ("kl", "nll", "rmse") if name in metrics)
        return metrics[monitor]

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        if step % self.every == 0 or step == self.total_steps:
            self.evaluate(pl_module, step)
        if self.stopped:
            trainer.should_stop = True

    def evaluate(self, module: Any, step: int) -> None:
        began = time.perf_counter()
        with nullcontext() if self.ema is None else self.ema.applied(module.student):
            found = heldout_metrics(module.pair, self.data.heldout(), device=module.device, loss=module.config.loss)
        seconds = time.perf_counter() - began
        self.seconds += seconds
        self.metrics.heldout(step, found, seconds)
        self.latest, self.latest_step = found, step
        monitor = self.config.checkpoint.monitor
        old = self.monitored(monitor, self.best) if self.best else None
        if better(monitor, self.monitored(monitor, found), old):
            self.best, self.best_step = found, step
        self._watch(found)

    def _watch(self, found: dict[str, float]) -> None:
        """Early stopping: count the evaluations since the monitored metric last improved."""
        rule = self.config.early_stopping
        if rule is None:
            return
        value = self.monitored(rule.monitor, found)
        if better(rule.monitor, value, self.reference, by=rule.min_delta):
            self.reference, self.waited = value, 0
        else:
            self.waited += 1
            self.stopped = self.waited >= rule.patience

    STATE = ("latest", "best", "latest_step", "best_step", "reference", "waited", "stopped", "seconds")

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in self.STATE:
            setattr(self, name, state_dict[name])
