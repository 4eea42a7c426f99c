"""How far the training is: a bar on a terminal, else a line every so often."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

LINE_SECONDS = 10.0


class ProgressBar(Callback):  # type: ignore[misc]
    """Step, loss, tokens per second and the time that is left, from the steps of this session."""

    def __init__(self, *, total_steps: int, console: Console | None = None) -> None:
        self.total_steps = total_steps
        self.console = console or Console()
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._began = self._said = 0.0
        self._first_step = self._tokens = 0
        self._seconds = 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._began = self._said = time.monotonic()
        self._first_step = trainer.global_step
        if self.console.is_terminal:
            columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[shown]}"), console=self.console)
            self._task = self._bar.add_task("train", total=self.total_steps, completed=self._first_step, shown="")
            self._bar.start()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._tokens += pl_module.result.tokens
        self._seconds += pl_module.result.seconds
        step, now = trainer.global_step, time.monotonic()
        left = (now - self._began) / (step - self._first_step) * (self.total_steps - step)
        shown = f"loss {pl_module.result.loss:.4f}  {self._tokens / self._seconds:,.0f} tokens/s  {clock(left)} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, shown=shown)
        elif now - self._said >= LINE_SECONDS or step == self.total_steps:
            self._said = now
            print(f"step {step}/{self.total_steps}  {shown}", flush=True)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.stop()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.stop()

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def clock(seconds: float) -> str:
    """`1:02:03`, or `2:03` below an hour."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
