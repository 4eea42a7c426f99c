"""The training step as a LightningModule: one `training_step` is one optimiser step over all its micro-batches.

The loss of a step is a sum over the rows of every micro-batch on every rank, divided by their number, counted after
the batches are final. So 8 x 1 = 1 x 8 = 2 ranks x 4, whatever the lengths.

Shape letters: B batch, T time, N rows, H hidden.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from kdlab.batch import Batch, Step
from kdlab.losses.engine import LossOutput, row_loss
from kdlab.models.head import SplitModel
from kdlab.rows import Rows, supervised
from kdlab.training.callbacks.guard import Guard
from kdlab.training.optimizers import build_optimizer
from kdlab.training.schedulers import build_scheduler

if TYPE_CHECKING:
    from kdlab.teachers.live import LiveTeacher
    from kdlab.training.recipe import TrainConfig


@dataclass(kw_only=True)
class StepResult:
    """What one optimiser step did, over all ranks. Losses are per row, `seconds` is the wall clock's."""

    loss: float = math.nan
    divergence: float | None = None
    hard: float | None = None
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

    def add(self, output: LossOutput) -> None:
        self.losses.append(output.loss.detach())
        self.divergence.append(output.divergence)
        if output.hard is not None:
            self.hard.append(output.hard)


class Distiller(LightningModule):  # type: ignore[misc]
    """Trains `student` to match `teacher` (None: the labels alone) over `total_steps` optimiser steps.

    The teacher is no submodule: it is never moved, counted, synchronised or saved with the student.
    """

    def __init__(self, config: TrainConfig, student: Any, teacher: LiveTeacher | None, *, total_steps: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False  # a checkpoint holds the trainable weights only; `on_load_checkpoint` checks them
        self.config = config
        self.total_steps = total_steps
        self.student = student
        self.__dict__["teacher"] = teacher
        self.__dict__["split"] = SplitModel(student)
        self.guard = Guard()
        self.progress = Progress()
        self.result = StepResult()
        self._step: Step = []
        self._losses: list[Tensor] = []
        if config.trainer.gradient_checkpointing:
            student.activation_checkpointing_enable({"use_reentrant": False})

    def configure_optimizers(self) -> Any:
        # A fused step would unscale the gradients itself, after they were clipped.
        fused = getattr(self.trainer.precision_plugin, "scaler", None) is None
        optimizer = build_optimizer(
            self.config.optimizer, self.student.named_parameters(), device=self.device, fused=fused
        )
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
        rows, tokens = self._over_ranks([sum(batch.rows() for batch in step), sum(batch.tokens for batch in step)])
        sums = _Sums()
        optimizer.zero_grad(set_to_none=True)
        for i, batch in enumerate(step):
            sums.add(self._backward(batch, count=max(rows, 1.0), last=i == len(step) - 1))
        self.result = self._result(sums, rows, tokens)
        self.result.learning_rate = float(optimizer.param_groups[0]["lr"])
        self._losses = sums.losses
        optimizer.step()
        scheduler.step()
        self.result.seconds = time.perf_counter() - began
        self.progress.add(self.result)

    def _backward(self, batch: Batch, *, count: float, last: bool) -> LossOutput:
        """Add the gradient of one micro-batch; the ranks add theirs up with the last one."""
        batch = batch.to(self.device)
        teacher = self.teacher if self.config.loss.hard_weight < 1 else None
        rows = student_rows(self.split, teacher, batch)
        output: LossOutput = row_loss(self.config.loss, rows, count=count)
        world = self.trainer.world_size
        if world > 1:
            self.trainer.model.require_backward_grad_sync = last
        with torch.autocast(self.device.type, enabled=False):
            self.manual_backward(output.loss * world)  # DDP takes the mean over ranks, and we want the sum
        return output

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Clip, and stop here, before a bad gradient reaches the weights. A gradient scaler has unscaled by now."""
        clip = self.config.trainer.clip
        parameters = [p for p in self.student.parameters() if p.grad is not None]
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
        parts = [torch.stack(part).sum().item() if part else 0.0 for part in (sums.losses, sums.divergence, sums.hard)]
        loss, divergence, hard = self._over_ranks(parts)
        count = max(rows, 1.0)
        return StepResult(
            loss=loss,
            divergence=divergence / count if self.config.loss.hard_weight < 1 else None,
            hard=hard / count if sums.hard else None,
            rows=int(rows),
            tokens=int(tokens),
        )

    def _over_ranks(self, values: list[float] | list[int]) -> list[float]:
        """The sum of each value over all ranks."""
        if self.trainer.world_size == 1:
            return [float(value) for value in values]
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return [float(value) for value in total]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what training changes: trainable weights and buffers. Frozen ones are rebuilt from the config."""
        frozen = {
            name for name, parameter in self.named_parameters(remove_duplicate=False) if not parameter.requires_grad
        }
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k not in frozen}
        checkpoint["progress"] = dict(vars(self.progress))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        missing = [n for n, p in self.named_parameters() if p.requires_grad and n not in checkpoint["state_dict"]]
        if missing:
            raise ValueError(f"student: the checkpoint has no weights for {missing[0]} and {len(missing) - 1} others")
        self.progress = Progress(**checkpoint["progress"])


def student_rows(split: SplitModel, teacher: LiveTeacher | None, batch: Batch) -> Rows:
    """The rows of one batch: the student's side (with its graph where gradients are on), the signal, the labels."""
    positions_N, labels_N = supervised(batch.labels_BT, shift=True)
    signal = None
    if teacher is not None:
        with torch.no_grad(), torch.autocast(batch.input_ids_BT.device.type, enabled=False):
            signal = teacher.signal(batch, positions_N)
    hidden_BTH = split.hidden(batch)
    hidden_NH = hidden_BTH.reshape(-1, hidden_BTH.shape[-1])[positions_N]
    device = hidden_NH.device.type
    if torch.is_autocast_enabled(device):
        # The last norm leaves float32; autocast would narrow it at the head, and the engine multiplies in this type.
        hidden_NH = hidden_NH.to(torch.get_autocast_dtype(device))
    return Rows(student=split.project(hidden_NH), teacher=signal, labels_N=labels_N)
