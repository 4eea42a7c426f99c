"""The training step as a LightningModule: one `training_step` is one optimiser step over all its micro-batches.

The loss of a step is a sum over the rows of every micro-batch on every rank, divided by their number, counted after
the batches are final. So 8 x 1 = 1 x 8 = 2 ranks x 4, whatever the lengths.

"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from kdlab.batch import Batch, Step
from kdlab.losses.base import RowLoss
from kdlab.losses.cross.base import CrossLoss
from kdlab.losses.cross.engine import cross_loss
from kdlab.losses.engine import LossOutput, row_loss
from kdlab.losses.squared_error import SquaredError, squared_error
from kdlab.models.inner import InnerLayers
from kdlab.rows import PairRows
from kdlab.training.callbacks.guard import Guard
from kdlab.training.optimizers import build_optimizer
from kdlab.training.pair import ModelPair
from kdlab.training.schedulers import build_scheduler

if TYPE_CHECKING:
    from kdlab.training.recipe import TrainConfig


@dataclass(kw_only=True)
class StepResult:
    """What one optimiser step did, over all ranks. Losses are per row, `seconds` is the wall clock's."""

    loss: float = math.nan
    divergence: float | None = None
    hard: float | None = None
    hidden: float | None = None
    attention: float | None = None
    relation: float | None = None
    learning_rate: float = 0.0
    gradient_norm: float = math.nan
    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0


@dataclass(kw_only=True)
class Progress:
    """What the run has trained on so far, over all its sessions."""

    tokens: int = 0
    rows: int = 0
    seconds: float = 0.0

    def add(self, step: StepResult) -> None:
        self.tokens += step.tokens
        self.rows += step.rows
        self.seconds += step.seconds


@dataclass
class _Sums:
    """Sums over the micro-batches of one step on this rank."""

    losses: list[Tensor] = field(default_factory=list)
    divergence: list[Tensor] = field(default_factory=list)
    hard: list[Tensor] = field(default_factory=list)
    inner: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, loss: Tensor, output: LossOutput, inner: dict[str, Tensor]) -> None:
        self.losses.append(loss.detach())
        self.divergence.append(output.divergence)
        if output.hard is not None:
            self.hard.append(output.hard)
        for name, value in inner.items():
            self.inner.setdefault(name, []).append(value)


def inner_layers(config: TrainConfig, pair: ModelPair) -> InnerLayers | None:
    """What listens to the inner layers of `pair`; None where no term asks. Raises as `InnerLayers` does."""
    if not config.inner.terms():
        return None
    assert pair.teacher is not None
    if pair.teacher.split is None:
        raise ValueError(
            f"inner.{next(iter(config.inner.terms()))}: needs the teacher's layers, and {pair.teacher.description} is "
            "no model here; choose inner=none or a live teacher"
        )
    return InnerLayers(config.inner, pair.split, pair.teacher.split, seed=config.seed)


class Distiller(LightningModule):  # type: ignore[misc]
    """Trains the student of `pair` to match its teacher (None: the labels alone) over `total_steps` optimiser steps.

    The teacher is no submodule: it is never moved, counted, synchronised or saved with the student. `inner` (as
    `inner_layers` makes it) holds the projections between inner layers: they train and resume with the student, and
    are not part of it.
    """

    def __init__(
        self, config: TrainConfig, pair: ModelPair, *, inner: InnerLayers | None = None, total_steps: int
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False  # a checkpoint holds the trainable weights only; `on_load_checkpoint` checks them
        self.config = config
        self.total_steps = total_steps
        self.student = student = pair.split.model
        self.__dict__["pair"] = pair
        assert (inner is not None) == bool(config.inner.terms()), "`inner` is what the config asks for"
        self.inner = inner
        self.guard = Guard()
        self.progress = Progress()
        self.result = StepResult()
        self.skipped = False
        """Whether the last step's gradient overflowed in float16, so that no weight moved."""
        self._step: Step = []
        self._losses: list[Tensor] = []
        if config.trainer.gradient_checkpointing:
            student.activation_checkpointing_enable({"use_reentrant": False})

    def configure_optimizers(self) -> Any:
        # A fused step would unscale the gradients itself, after they were clipped.
        fused = getattr(self.trainer.precision_plugin, "scaler", None) is None
        trained = [(name.removeprefix("student."), weight) for name, weight in self.named_parameters()]
        optimizer = build_optimizer(self.config.optimizer, trained, device=self.device, fused=fused)
        scheduler = build_scheduler(self.config.scheduler, optimizer, total=self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def transfer_batch_to_device(self, batch: Step, device: torch.device, dataloader_idx: int) -> Step:
        return batch  # each micro-batch moves when its turn comes

    def on_train_start(self) -> None:
        self.student.train()

    def training_step(self, step: Step, batch_idx: int) -> None:
        began = time.perf_counter()
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        self._step = step
        rows, tokens = self._over_ranks([sum(batch.rows for batch in step), sum(batch.tokens for batch in step)])
        progress = self.trainer.global_step / max(self.total_steps - 1, 1)
        sums = _Sums()
        optimizer.zero_grad(set_to_none=True)
        for i, batch in enumerate(step):
            last = i == len(step) - 1
            self._backward(batch, sums, rows=max(rows, 1.0), tokens=max(tokens, 1.0), progress=progress, last=last)
        self.result = self._result(sums, rows, tokens)
        self.result.learning_rate = float(optimizer.param_groups[0]["lr"])
        self._losses = sums.losses
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        scale = scaler.get_scale() if scaler is not None else 1.0
        optimizer.step()
        # A gradient that overflowed in float16 is thrown away, and the scale lowered: nothing was learned.
        self.skipped = scaler is not None and scaler.get_scale() < scale
        if not self.skipped:
            scheduler.step()
        self.result.seconds = time.perf_counter() - began
        self.progress.add(self.result)

    def _backward(self, batch: Batch, sums: _Sums, *, rows: float, tokens: float, progress: float, last: bool) -> None:
        """Add the gradient of one micro-batch; the ranks add theirs up with the last one."""
        batch = batch.to(self.device)
        loss = self.config.loss.at(progress)
        taught = self.inner is not None or loss.hard_weight < 1 or isinstance(loss, CrossLoss)
        with nullcontext() if self.inner is None else self.inner.listening():
            read = self.pair.rows(batch, taught=taught)
            output: LossOutput
            if isinstance(read, PairRows):
                assert isinstance(loss, CrossLoss)
                assert self.pair.matched is not None
                output = cross_loss(loss, read, matched=self.pair.matched, count=rows)
            elif isinstance(loss, SquaredError):
                output = squared_error(loss, read, count=rows)
            else:
                assert isinstance(loss, RowLoss)
                output = row_loss(loss, read, count=rows)
            total = output.loss
            inner: dict[str, Tensor] = {}
            if self.inner is not None:
                added, inner = self.inner.loss(batch, progress=progress, count=tokens)
                total = total + added
        sums.add(total, output, inner)
        world = self.trainer.world_size
        if world > 1:
            self.trainer.model.require_backward_grad_sync = last
        with torch.autocast(self.device.type, enabled=False):
            self.manual_backward(total * world)  # DDP takes the mean over ranks, and we want the sum

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Clip, and stop here, before a bad gradient reaches the weights. A gradient scaler has unscaled by now."""
        clip = self.config.trainer.clip
        parameters = [p for p in self.parameters() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip if clip > 0 else math.inf)
        self.result.gradient_norm = float(norm)
        self.guard.check(
            self.result.loss,
            self.result.gradient_norm,
            step=self.trainer.global_step + 1,
            batches=list(zip(self._step, self._losses, strict=True)),
            scaled=getattr(self.trainer.precision_plugin, "scaler", None) is not None,
        )

    def _result(self, sums: _Sums, rows: float, tokens: float) -> StepResult:
        names = sorted(sums.inner)
        parts = [sums.losses, sums.divergence, sums.hard, *(sums.inner[name] for name in names)]
        totals = self._over_ranks([torch.stack(part).sum().item() if part else 0.0 for part in parts])
        loss, divergence, hard, *inner = totals
        count = max(rows, 1.0)
        return StepResult(
            loss=loss,
            divergence=divergence / count if self.config.loss.asks_teacher else None,
            hard=hard / count if sums.hard else None,
            rows=int(rows),
            tokens=int(tokens),
            **{name: value / max(tokens, 1.0) for name, value in zip(names, inner, strict=True)},
        )

    def _over_ranks(self, values: list[float] | list[int]) -> list[float]:
        """The sum of each value over all ranks."""
        if self.trainer.world_size == 1:
            return [float(value) for value in values]
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return [float(value) for value in total]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what training changes: trainable weights and buffers. The rest is rebuilt from the config: frozen
        weights, and the scales of packed ones, which are neither parameters nor buffers."""
        kept = {name for name, weight in self.named_parameters(remove_duplicate=False) if weight.requires_grad}
        kept |= {name for name, _ in self.named_buffers(remove_duplicate=False)}
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in kept}
        checkpoint["progress"] = dict(vars(self.progress))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        missing = [n for n, p in self.named_parameters() if p.requires_grad and n not in checkpoint["state_dict"]]
        if missing:
            raise ValueError(f"student: the checkpoint has no weights for {missing[0]} and {len(missing) - 1} others")
        self.progress = Progress(**checkpoint["progress"])
