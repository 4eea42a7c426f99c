"""Benchmarks of others in a report: MT-Bench and lm-evaluation-harness, before and after on the same items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdlab.reporting.comparison import labels
from kdlab.reporting.markup import Html, section, table, tag
from kdlab.reporting.numbers import NONE, number, percent
from kdlab.reporting.runs import Run
from kdlab.reporting.stages import STAGES

STDERR = "_stderr"
TURNS = (("overall", "overall"), ("turn1", "first turn"), ("turn2", "second turn"))


def benchmarks(run: Run) -> Html | None:
    """The page's part on both; None of a run without them."""
    parts: list[Html] = []
    for title, (head, rows), note in (
        (MT_BENCH, mt_bench_cells(run), mt_bench_note(run)),
        (HARNESS, harness_cells(run), harness_note(run)),
    ):
        if rows or note:  # pairs alone give no scores
            parts.append(tag("h3", title))
            parts += [table([*head], [[*row] for row in rows])] if rows else []
            parts += [tag("p", note, class_="soft after")] if note else []
    return section("Benchmarks", *parts) if parts else None


MT_BENCH, HARNESS = "MT-Bench", "Tasks of lm-evaluation-harness"


def mt_bench_cells(run: Run) -> tuple[list[str], list[list[str]]]:
    """Head and rows of MT-Bench's scores, from 1 to 10: overall, by turn, by category."""
    named = [run.value("metrics", who, "mt_bench", "categories") for who, _ in STAGES]
    categories = dict.fromkeys(str(name) for found in named if isinstance(found, dict) for name in found)
    wanted = [((key,), title) for key, title in TURNS] + [(("categories", name), name) for name in categories]
    rows = []
    for keys, title in wanted:
        values = [run.number("metrics", who, "mt_bench", *keys) for who, _ in STAGES]
        if any(value is not None for value in values):
            told = [
                _score(value) + (_ends(run, who) if keys == ("overall",) else "")
                for value, (who, _) in zip(values, STAGES, strict=True)
            ]
            moved = run.value("metrics", "after", "moved", "mt_bench", *keys)
            rows.append([title, *told, _gain(values[0], values[1], moved)])
    return _head(), rows


def _ends(run: Run, who: str) -> str:
    """The 95 % interval of the overall score, over questions."""
    found = run.value("metrics", who, "mt_bench", "interval")
    known = isinstance(found, list) and len(found) == 2 and all(map(_is_number, found))
    return f" ({found[0]:.2f}–{found[1]:.2f})" if known else ""


def mt_bench_note(run: Run) -> str:
    """How many answers were judged, what could not be read, who won, and what it cost."""
    parts = []
    for who, title in STAGES:
        count, unparsed = (run.number("metrics", who, "mt_bench", key) for key in ("count", "unparsed"))
        if count is not None:
            lost = f", {number(unparsed)} verdicts without a rating" if unparsed else ""
            parts.append(f"{title}: {number(count)} answers judged{lost}")
    items = run.number("metrics", "after", "moved", "mt_bench", "overall", "count")
    if items is not None:
        parts.append(f"after − before over the {number(items)} questions that both were rated on, {PAIRED}")
    if told := _pairwise(run):
        parts.append(told)
    costs = [(title, run.value("metrics", who, "mt_bench", "cost")) for who, title in STAGES]
    for title, cost in [*costs, ("pairs", run.value("metrics", "after", "pairwise", "cost"))]:
        known = (
            {key: value for key, value in cost.items() if _is_number(value) and value} if isinstance(cost, dict) else {}
        )
        if known:
            said = ", ".join(f"{key.replace('_', ' ')} {number(value)}" for key, value in known.items())
            parts.append(f"judging {title} took {said}")
    return "; ".join(parts) + "." if parts else ""


def _pairwise(run: Run) -> str:
    """After against before, each pair judged in both orders, and in which interval the share that it wins lies."""
    wins, losses, ties, rate = (run.number("metrics", "after", "pairwise", key) for key in PAIRWISE)
    if wins is None or losses is None:
        return ""
    told = f"after against before, side by side: {number(wins)} wins, {number(losses)} losses"
    told += f", {number(ties)} ties" if ties is not None else ""
    if rate is not None:
        interval = run.value("metrics", "after", "pairwise", "interval")
        told += f"; it wins {percent(rate)}, a tie counting half{_interval(interval)}"
    order, unparsed = (run.number("metrics", "after", "pairwise", key) for key in ("order_decided", "unparsed"))
    told += f"; of {number(order)} ties the order of the two decided" if order else ""
    return told + (f"; {number(unparsed)} could not be read" if unparsed else "")


PAIRWISE = ("wins", "losses", "ties", "win_rate")
PAIRED = "with its 95 % interval (Student's paired t; not corrected for several rows)"


def harness_note(run: Run) -> str:
    """What the differences are over, and of which tasks there is none because other examples were asked."""
    found = run.value("metrics", "after", "moved", "harness")
    tasks = {task: moves for task, moves in found.items() if isinstance(moves, dict)} if isinstance(found, dict) else {}
    paired = any(any(moves.values()) for moves in tasks.values())
    parts = [f"after − before over the same examples, {PAIRED}"] if paired else []
    other = [task for task, moves in tasks.items() if moves and not any(moves.values())]
    if other:
        parts.append(f"{', '.join(map(str, other))}: other examples were asked before than after, which is no pair")
    return "; ".join(parts) + "." if parts else ""


def _interval(found: Any) -> str:
    """The 95 % interval of a share, over questions."""
    if not isinstance(found, list) or len(found) != 2 or not all(map(_is_number, found)):
        return ""
    return f" (95 % interval over questions {100 * found[0]:.1f}–{100 * found[1]:.1f})"


def harness_cells(run: Run) -> tuple[list[str], list[list[str]]]:
    """Head and rows of every task's metrics with their standard errors."""
    rows = []
    for task, metric in _measured([run]):
        values = [run.number("metrics", who, "harness", task, metric) for who, _ in STAGES]
        told = [_with_error(run, who, task, metric) for who, _ in STAGES]
        moved = run.value("metrics", "after", "moved", "harness", task, metric)
        rows.append([f"{task}: {metric}", *told, _gain(values[0], values[1], moved, digits=3)])
    return _head(), rows


def many_cells(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table of runs with MT-Bench's overall score and each task's metrics, before → after."""
    kept = [(run, label) for run, label in zip(runs, labels(runs), strict=True) if _any(run)]
    tasks = _measured([run for run, _ in kept])
    scored = any(run.number("metrics", "after", "mt_bench", "overall") is not None for run, _ in kept)
    head = ["run", *([MT_BENCH] if scored else []), *(f"{task}: {metric}" for task, metric in tasks)]
    rows = []
    for run, label in kept:
        cells = [_moved(run, "mt_bench", "overall")] if scored else []
        rows.append([label, *cells, *(_moved(run, "harness", task, metric) for task, metric in tasks)])
    return head, rows


def _any(run: Run) -> bool:
    return any(run.value("metrics", "after", name) is not None for name in ("mt_bench", "harness"))


def _measured(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Every task and metric of it that some stage has a number of."""
    found: dict[tuple[str, str], None] = {}
    for run in runs:
        for who, _ in STAGES:
            tasks = run.value("metrics", who, "harness")
            for task, metrics in tasks.items() if isinstance(tasks, dict) else ():
                for metric, value in metrics.items() if isinstance(metrics, dict) else ():
                    if _is_number(value) and not str(metric).endswith(STDERR):
                        found[str(task), str(metric)] = None
    return list(found)


def _with_error(run: Run, who: str, task: str, metric: str) -> str:
    value = run.number("metrics", who, "harness", task, metric)
    error = run.number("metrics", who, "harness", task, f"{metric}{STDERR}")
    return number(value, digits=3) + (f" ± {number(error, digits=2)}" if error is not None else "")


def _moved(run: Run, *keys: str) -> str:
    before, after = (run.number("metrics", who, *keys) for who in ("before", "after"))
    return NONE if after is None else f"{number(before, digits=3)} → {number(after, digits=3)}"


def _head() -> list[str]:
    return ["", *(title for _, title in STAGES), "after − before"]


def _score(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _gain(before: float | None, after: float | None, moved: Any, *, digits: int = 2) -> str:
    """How far a measure moved: over the items of both with its interval, where the run tells that."""
    if isinstance(moved, dict) and _is_number(moved.get("difference")):
        match moved.get("interval"):
            case [int() | float() as low, int() | float() as high]:
                ends = f" ({low:+.{digits}f} to {high:+.{digits}f})"
            case _:
                ends = ""
        return f"{moved['difference']:+.{digits}f}{ends}"
    return NONE if before is None or after is None else f"{after - before:+.{digits}f}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
