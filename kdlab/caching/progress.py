"""How far a cache is: a bar on a terminal, else a line every so often."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 30.0


class RowsBar:
    """Rows made by this process, of those that were missing when it began. `done` counts them."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.done = 0
        self._total = 0
        self._began = self._said = 0.0
        self._bar: Progress | None = None

    @contextmanager
    def over(self, rows: int, *, shown: bool = True) -> Iterator[None]:
        """Show the way to `rows` for the time of the block."""
        self._total, self._began, self._said = rows, time.monotonic(), time.monotonic()
        if shown and self.console.is_terminal:
            columns = (TextColumn("caching"), BarColumn(), TextColumn("{task.fields[shown]}"), TimeRemainingColumn())
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._bar.add_task("cache", total=rows, shown="")
            self._bar.start()
        try:
            yield
        finally:
            if self._bar is not None:
                self._bar.stop()
                self._bar = None

    def advance(self, rows: int) -> None:
        self.done += rows
        now = time.monotonic()
        shown = f"{self.done:,} of {self._total:,} rows  {self.done / max(now - self._began, 1e-9):,.0f} rows/s"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.done, shown=shown)
        elif now - self._said >= LINE_SECONDS:
            self._said = now
            print(shown, flush=True)

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)
