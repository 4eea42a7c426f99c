"""How far the writing is: a bar on a terminal, else a line every so often."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kdlab.training.callbacks.progress import clock

LINE_SECONDS = 30.0


class WritingBar:
    """Answers written, tokens per second and the time that is left, from the answers of this process.

    with WritingBar(total=100, done=32, shown=True) as bar:
        bar.advance(answers=16, tokens=2048)
    """

    def __init__(self, *, total: int, done: int, shown: bool, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._total, self._first, self._done, self._tokens = total, done, done, 0
        self._shown = shown
        self._began = self._said = time.monotonic()
        columns = (TextColumn("writing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        bar = shown and self._console.is_terminal
        self._bar = Progress(*columns, TextColumn("{task.fields[told]}"), console=self._console, disable=not bar)
        self._task = self._bar.add_task("write", total=total, completed=done, told="")

    def __enter__(self) -> WritingBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, *, answers: int, tokens: int) -> None:
        """So many more are written."""
        self._done += answers
        self._tokens += tokens
        now = time.monotonic()
        seconds = max(now - self._began, 1e-9)
        left = seconds / (self._done - self._first) * (self._total - self._done)
        told = f"{self._tokens / seconds:,.0f} tokens/s  {clock(left)} left"
        self._bar.update(self._task, completed=self._done, told=told)
        if self._shown and not self._console.is_terminal and now - self._said >= LINE_SECONDS:
            self._said = now
            self._console.print(f"answer {self._done}/{self._total}  {told}", highlight=False, soft_wrap=True)
