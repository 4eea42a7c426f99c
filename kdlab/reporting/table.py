"""The report in the terminal: the same numbers as the page's tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kdlab.reporting.arms import pair_cells
from kdlab.reporting.comparison import cells, ranked, repeats, seed_cells, seed_groups
from kdlab.reporting.evaluations import Evaluation
from kdlab.reporting.numbers import number
from kdlab.reporting.questions import HEAD, evaluation_cells, run_cells
from kdlab.reporting.runs import Run
from kdlab.reporting.stages import STAGES, measured
from kdlab.reporting.verdict import answer, closed, notes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

PIPE_WIDTH = 200
"""Columns where the output is not a terminal: a table in a file should not be folded to 80."""


def show(
    runs: Sequence[Run],
    complaints: Sequence[str] = (),
    evaluations: Sequence[Evaluation] = (),
    *,
    console: Console | None = None,
) -> None:
    """Print one run's results, or a row for each of many, then evaluations, then what could not be read."""
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
    elif runs:
        for part in _many(runs):
            console.print(part)
    if evaluations:
        for part in _evaluated(evaluations):
            console.print(part)
    for complaint in complaints:
        console.print(Text(f"not read: {complaint}", style="yellow"))


def _many(runs: Sequence[Run]) -> Iterator[Table | Text]:
    """A row a run, then what repeats over seeds, then what differs."""
    from rich.text import Text

    head, rows = cells(ranked(runs))
    yield _table(f"{len(runs)} runs", head, rows)
    groups = seed_groups(runs)
    if groups:
        head, rows = seed_cells(groups)
        yield _table("over seeds: mean ± 95 % interval (sd)", head, rows)
        if repeats(groups):
            yield Text(repeats(groups), style="dim")
        head, rows, note = pair_cells(groups)
        if rows:
            yield _table("differences over the same seeds: mean ± 95 % interval (paired t-test)", head, rows)
            yield Text(note, style="dim")
    rows, note = run_cells(runs)
    if rows:
        yield _table("accuracy, question by question", HEAD, rows)
    if note:
        yield Text(note, style="dim")


def _evaluated(evaluations: Sequence[Evaluation]) -> Iterator[Table | Text]:
    """A row an evaluation, then what differs."""
    from rich.text import Text

    head, rows, pair_lines, note = evaluation_cells(evaluations)
    yield _table(f"{len(evaluations)} evaluation{'s' * (len(evaluations) > 1)}", head, rows)
    if pair_lines:
        yield _table("differences, question by question", HEAD, pair_lines)
    if note:
        yield Text(note, style="dim")


def _one(run: Run) -> Table:
    rows = run.number("metrics", "after", "rows")
    lines = [
        [metric.title, *(metric.told(run, who) for who, _ in STAGES), closed(run, metric)] for metric in measured([run])
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
