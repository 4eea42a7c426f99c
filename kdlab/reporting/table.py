"""The report in the terminal: the same numbers as the page's tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kdlab.reporting.arms import pair_cells
from kdlab.reporting.benchmarks import (
    HARNESS,
    MT_BENCH,
    harness_cells,
    harness_note,
    many_cells,
    mt_bench_cells,
    mt_bench_note,
)
from kdlab.reporting.classes import few_count_cells, usual_of_data
from kdlab.reporting.comparison import cells, ranked
from kdlab.reporting.evaluations import Evaluation
from kdlab.reporting.exports import export_cells, joined_cells
from kdlab.reporting.exports import note as variants_note
from kdlab.reporting.pipelines import stage_cells as stage_cells_of
from kdlab.reporting.questions import HEAD, evaluation_cells, run_cells
from kdlab.reporting.records import Records
from kdlab.reporting.repeat_table import over, repeat_cells
from kdlab.reporting.repeat_table import told as repeats_told
from kdlab.reporting.repeats import left_out, repeat_groups
from kdlab.reporting.runs import Run
from kdlab.reporting.stages import rows_told
from kdlab.reporting.verdict import answer, notes, stage_cells

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

PIPE_WIDTH = 200
"""Columns where the output is not a terminal: a table in a file should not be folded to 80."""


def show(records: Records, *, console: Console | None = None) -> None:
    """Print one run's results, or a row for each of many, then what else there is, then what could not be read."""
    from rich.console import Console
    from rich.text import Text

    if console is None:
        console = Console()
        if not console.is_terminal:
            console = Console(width=PIPE_WIDTH)
    runs = records.runs
    parts = [_piped(records.pipelines)] if records.pipelines else []
    parts.append(_one(runs[0]) if len(runs) == 1 else _many(runs))
    parts += [
        _benchmarked(runs),
        _exported(records.exports),
        _prepared(records.prepared),
        _evaluated(records.evaluations),
    ]
    for part in parts:
        for shown in part:
            console.print(shown)
    for complaint in records.complaints:
        console.print(Text(f"not read: {complaint}", style="yellow"))


def _one(run: Run) -> Iterator[Table | Text]:
    from rich.text import Text

    head, rows = stage_cells(run)
    where = rows_told(run)
    yield _table(run.title + (f", {where}" if where else ""), head, rows)
    told = answer(run)
    colour = {"good": "green", "bad": "red", "mixed": "yellow", "open": "cyan"}[told.tone]
    yield Text.assemble((told.headline + ". ", f"bold {colour}"), told.sentence)
    for line in notes(run):
        yield Text(line, style="dim")
    yield Text(f"{run.state}: {run.folder}", style="dim")


def _many(runs: Sequence[Run]) -> Iterator[Table | Text]:
    """A row a run, then what repeats over seeds or folds, then what differs."""
    from rich.text import Text

    if not runs:
        return
    head, rows = cells(ranked(runs))
    yield _table(f"{len(runs)} runs", head, rows)
    groups = repeat_groups(ranked(runs))
    if groups:
        head, rows = repeat_cells(groups)
        yield _table(f"over {over(groups)}: mean ± 95 % interval (sd)", head, rows)
        said = repeats_told(groups) if any(group.by_fold for group in groups) else left_out(groups)
        if said:
            yield Text(said, style="dim")
        head, rows, note = pair_cells(groups)
        if rows:
            by_fold = any(group.by_fold for group in groups)
            test = "corrected resampled t-test" if by_fold else "paired t-test"
            yield _table(f"differences over the same {over(groups)}: mean ± 95 % interval ({test})", head, rows)
            yield Text(note, style="dim")
    rows, note = run_cells(runs)
    if rows:
        yield _table("accuracy, question by question", HEAD, rows)
    if note:
        yield Text(note, style="dim")


def _benchmarked(runs: Sequence[Run]) -> Iterator[Table | Text]:
    from rich.text import Text

    if len(runs) == 1:
        for title, (head, rows), note in (
            (MT_BENCH, mt_bench_cells(runs[0]), mt_bench_note(runs[0])),
            (HARNESS, harness_cells(runs[0]), harness_note(runs[0])),
        ):
            if rows:
                yield _table(title, head, rows)
            if note:
                yield Text(note, style="dim")
        return
    head, rows = many_cells(runs)
    if rows:
        yield _table("benchmarks, before → after", head, rows)


def _exported(exports: Sequence[Run]) -> Iterator[Table | Text]:
    from rich.text import Text

    if not exports:
        return
    head, rows = export_cells(exports[0]) if len(exports) == 1 else joined_cells(exports)
    yield _table("variants" if len(exports) == 1 else f"variants, means over {len(exports)} exports", head, rows)
    if note := variants_note(exports):
        yield Text(note, style="dim")


def _prepared(prepared: Sequence[Run]) -> Iterator[Table | Text]:
    from rich.text import Text

    for one in prepared:
        head, rows, said = few_count_cells(one)
        if rows:
            yield _table(f"{one.title}: rows of each class", head, rows)
        if note := f"{said} {usual_of_data(one)}".strip():
            yield Text(note, style="dim")


def _piped(pipelines: Sequence[Run]) -> Iterator[Table | Text]:
    head, rows = stage_cells_of(pipelines)
    yield _table(f"pipeline {pipelines[0].name}" if len(pipelines) == 1 else f"{len(pipelines)} pipelines", head, rows)


def _evaluated(evaluations: Sequence[Evaluation]) -> Iterator[Table | Text]:
    """A row an evaluation, then what differs."""
    from rich.text import Text

    if not evaluations:
        return
    head, rows, pair_lines, note = evaluation_cells(evaluations)
    yield _table(f"{len(evaluations)} evaluation{'s' * (len(evaluations) > 1)}", head, rows)
    if pair_lines:
        yield _table("differences, question by question", HEAD, pair_lines)
    if note:
        yield Text(note, style="dim")


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
