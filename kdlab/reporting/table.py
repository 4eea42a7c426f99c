"""The report in the terminal: the same numbers as the page's tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdlab.reporting.arms import pair_cells
from kdlab.reporting.comparison import cells, ranked, repeats, seed_cells, seed_groups
from kdlab.reporting.numbers import number
from kdlab.reporting.runs import Run
from kdlab.reporting.stages import STAGES, measured
from kdlab.reporting.verdict import answer, closed, notes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH = 200
"""Columns where the output is not a terminal: a table in a file should not be folded to 80."""


def show(runs: Sequence[Run], complaints: Sequence[str] = (), *, console: Console | None = None) -> None:
    """Print one run's results, or a row for each of many, then what could not be read."""
    from rich.console import Console
    from rich.text import Text

    if console is None:
        console = Console()
        if not console.is_terminal:
            console = Console(width=PIPE_WIDTH)
    if len(runs) == 1:
        told = answer(runs[0])
        colour = {"good": "green", "bad": "red", "mixed": "yellow", "open": "cyan"}[told.tone]
        console.print(_one(runs[0]))
        console.print(Text.assemble((told.headline + ". ", f"bold {colour}"), told.sentence))
        for line in notes(runs[0]):
            console.print(Text(line, style="dim"))
        console.print(Text(f"{runs[0].state}: {runs[0].folder}", style="dim"))
    else:
        head, rows = cells(ranked(runs))
        console.print(_table(f"{len(runs)} runs", head, rows))
        groups = seed_groups(runs)
        if groups:
            head, rows = seed_cells(groups)
            console.print(_table("over seeds: mean ± 95 % interval (sd)", head, rows))
            if repeats(groups):
                console.print(Text(repeats(groups), style="dim"))
            head, rows, note = pair_cells(groups)
            if rows:
                console.print(
                    _table("differences over the same seeds: mean ± 95 % interval (paired t-test)", head, rows)
                )
                console.print(Text(note, style="dim"))
    for complaint in complaints:
        console.print(Text(f"not read: {complaint}", style="yellow"))


def _one(run: Run) -> Table:
    rows = run.number("metrics", "after", "rows")
    lines = [
        [metric.title, *(metric.show(metric.of(run, who)) for who, _ in STAGES), closed(run, metric)]
        for metric in measured([run])
    ]
    where = f", {number(rows)} held-out tokens" if rows else ""
    return _table(run.name + where, ["", *(title for _, title in STAGES), "gap closed"], lines)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Cells are plain text: markup in an override is shown as it is. Long cells fold, none is cut."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style="bold"), title_justify="left")
    for index, name in enumerate(head):
        table.add_column(Text(name), justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
