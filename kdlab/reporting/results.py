"""The page's results of a run: verdict, key numbers, held-out table and bars, curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kdlab.reporting.markup import Html, fold, section, table, tag
from kdlab.reporting.numbers import NONE, duration, number, percent, times
from kdlab.reporting.plots import COLOURS, Line, bars, curves, drawable, thin, wide
from kdlab.reporting.runs import Run
from kdlab.reporting.stages import CORE, DECISIONS, METRICS, STAGES, Metric, measured, rows_told
from kdlab.reporting.verdict import answer, notes, stage_cells

Curve = Callable[[Run], tuple[list[float], list[float]]]
TRAINED = (
    ("loss", "training loss"),
    ("hidden", "inner term: hidden states"),
    ("attention", "inner term: attention maps"),
    ("relation", "inner term: self-relations"),
)
"""Columns of metrics.csv that training steps write, where they have a line."""
NOT_DRAWN = {"nll"} | {metric.key for metric in METRICS if metric.key.startswith("generation.") or metric.of_test}
NOT_DRAWN |= {metric.key for metric in DECISIONS} - {"accuracy", "macro_f1", "rmse"}
"""Metrics without a curve: the log of another's, and what is measured before and after only."""


SHARES = {metric.key for metric in METRICS if metric.show is percent}
"""Metrics drawn in percent."""


def verdict(run: Run) -> Html:
    told = answer(run)
    return tag("div", tag("strong", told.headline), tag("p", told.sentence), class_=f"verdict {told.tone}")


def tiles(run: Run) -> Html | None:
    """The few numbers to remember."""
    judged = [
        ("KL to the teacher", number(run.number("metrics", "after", "kl"), digits=3)),
        ("perplexity", NONE if run.decides else number(run.number("metrics", "after", "perplexity"), digits=3)),
        ("top-1 agreement", percent(run.number("metrics", "after", "top1_agreement"))),
    ]
    scored = [(one.short, one.show(one.of(run, "after"))) for one in METRICS[len(CORE) :] if not one.minor]
    shown = [
        *(scored + judged if run.decides else judged + scored),
        ("smaller than the teacher", times(run.number("compression_ratio"))),
        ("optimiser steps", number(run.number("steps"))),
        ("in all", duration(run.number("seconds", "total"))),
    ]
    boxes = [
        tag("div", tag("b", value), tag("span", name, class_="soft"), class_="tile")
        for name, value in shown
        if value != NONE
    ]
    return tag("div", *boxes, class_="tiles") if boxes else None


def heldout(run: Run, *, key: str, pictures: bool = True) -> Html:
    """Held-out metrics of the student before and after beside the teacher's, as a table and as bars."""
    where = f"{'' if run.decides else 'per token '}over {rows_told(run) or 'the held-out data'}"
    metrics = measured([run])
    head, lines = stage_cells(run)
    minor = {metric.title for metric in metrics if metric.minor} if run.decides else set()
    pictures = pictures and drawable()
    drawn = [_bars(run, metric, key=key) for metric in metrics if pictures]
    drawn = [figure for figure in drawn if figure is not None]
    return section(
        "Held-out results",
        tag("p", f"The student before and after training beside its teacher, {where}.", class_="soft"),
        table([*head], [[*line] for line in lines if line[0] not in minor]),
        fold("More metrics", table([*head], [[*line] for line in lines if line[0] in minor])) if minor else None,
        tag("p", " ".join(told), class_="soft after") if (told := notes(run)) else None,
        tag("div", *drawn, class_="grid small pictures") if drawn else None,
    )


def _bars(run: Run, metric: Metric, *, key: str) -> Html | None:
    values = [(name, metric.of(run, who)) for who, name in STAGES]
    known = [(name, value, metric.show(value)) for name, value in values if value is not None]
    if metric.key == "nll" or metric.minor or len(known) < 2:
        return None
    # A share or a score is read against 100, so its bars are never logarithmic.
    log = metric.lower and wide([value for _, value, _ in known])
    place = f"{key}-bars-{metric.key.replace('.', '-')}"
    picture = Html(bars(known, key=place, title=metric.title, log=log))
    scale = " (log scale)" if log else None
    return tag("figure", picture, tag("figcaption", tag("b", metric.title), scale))


def training_curves(runs: Sequence[Run], *, key: str) -> Html | None:
    """Training loss and held-out metrics over steps, one line a run in the colour of its place in `runs`.

    Where matplotlib is not installed, a line that says how to get the plots; None where there is nothing to draw."""
    assert len(runs) < COLOURS
    plots: list[tuple[str, str, str, Curve]] = [
        (column, title, "on training batches", _trained(column)) for column, title in TRAINED
    ]
    heldout = [metric for metric in measured(runs) if metric.key not in NOT_DRAWN]
    plots += [(metric.key, metric.title, "on held-out data", metric.curve) for metric in heldout]
    figures = []
    for column, title, where, curve in plots:
        lines, most = [], 1
        for colour, run in enumerate(runs, start=1):
            x, y, stretch = thin(*curve(run))
            most = max(most, stretch)
            if len(x) > 1:
                lines.append(Line(colour=colour, x=x, y=y))
        if not lines:
            continue
        if not drawable():
            return tag("p", "There are no plots without matplotlib: pip install 'kdlab[report]' adds them.")
        notes = [where, *([f"each point the mean of {most} steps"] if most > 1 else [])]
        drawn = curves(lines, key=f"{key}-{column}", label=title, share=column in SHARES)
        figures.append(tag("figure", Html(drawn), tag("figcaption", tag("b", title), " " + ", ".join(notes))))
    return tag("div", *figures, class_="grid") if figures else None


def _trained(column: str) -> Curve:
    return lambda run: run.curve(column, phase="train")
