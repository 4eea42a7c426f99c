"""The page's results of a run: verdict, key numbers, held-out table and bars, curves."""

from __future__ import annotations

from collections.abc import Sequence

from kdlab.reporting.markup import Html, section, table, tag
from kdlab.reporting.numbers import NONE, duration, number, percent, times
from kdlab.reporting.plots import COLOURS, Line, bars, curves, drawable, thin, wide
from kdlab.reporting.runs import Run
from kdlab.reporting.stages import METRICS, STAGES, Show, stage
from kdlab.reporting.verdict import answer, kl_gap_closed, nll_gap_closed


def verdict(run: Run) -> Html:
    told = answer(run)
    return tag("div", tag("strong", told.headline), tag("p", told.sentence), class_=f"verdict {told.tone}")


def tiles(run: Run) -> Html | None:
    """The few numbers to remember."""
    shown = [
        ("KL to the teacher", number(run.number("metrics", "after", "kl"), digits=3)),
        ("perplexity", number(run.number("metrics", "after", "perplexity"), digits=3)),
        ("top-1 agreement", percent(run.number("metrics", "after", "top1_agreement"))),
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
    rows = run.number("metrics", "after", "rows") or run.number("metrics", "before", "rows")
    tokens = f"{number(rows)} held-out tokens" if rows else "the held-out data"
    closed = {"kl": kl_gap_closed(run), "nll": nll_gap_closed(run)}
    lines = [
        [
            title,
            *(show(stage(run, who, metric)) for who, _ in STAGES),
            percent(closed[metric]) if metric in closed else "",
        ]
        for metric, title, show in METRICS
    ]
    pictures = pictures and drawable()
    drawn = [_bars(run, metric, title, show, key=key) for metric, title, show in METRICS if pictures]
    drawn = [figure for figure in drawn if figure is not None]
    return section(
        "Held-out results",
        tag("p", f"The student before and after training beside its teacher, per token over {tokens}.", class_="soft"),
        table(["", *(title for _, title in STAGES), "gap closed"], lines),
        tag("div", *drawn, class_="grid small pictures") if drawn else None,
    )


def _bars(run: Run, metric: str, title: str, show: Show, *, key: str) -> Html | None:
    values = [(name, stage(run, who, metric)) for who, name in STAGES]
    known = [(name, value, show(value)) for name, value in values if value is not None]
    if metric == "nll" or len(known) < 2:
        return None
    # A share is read against 100 %, so its bars are never logarithmic.
    log = metric != "top1_agreement" and wide([value for _, value, _ in known])
    picture = Html(bars(known, key=f"{key}-bars-{metric}", title=title, log=log))
    scale = " (log scale)" if log else None
    return tag("figure", picture, tag("figcaption", tag("b", title), scale))


def training_curves(runs: Sequence[Run], *, key: str) -> Html | None:
    """Training loss and held-out metrics over steps, one line a run in the colour of its place in `runs`.

    Where matplotlib is not installed, a line that says how to get the plots; None where there is nothing to draw."""
    assert len(runs) < COLOURS
    plots = [("loss", "training loss", "on training batches")]
    plots += [(metric, title, "on held-out data") for metric, title, _ in METRICS if metric != "nll"]
    figures = []
    for column, title, where in plots:
        lines, most = [], 1
        for colour, run in enumerate(runs, start=1):
            x, y = run.curve(column, phase="train") if column == "loss" else heldout_curve(run, column)
            x, y, stretch = thin(x, y)
            most = max(most, stretch)
            if len(x) > 1:
                lines.append(Line(colour=colour, x=x, y=y))
        if not lines:
            continue
        if not drawable():
            return tag("p", "There are no plots without matplotlib: pip install 'kdlab[report]' adds them.")
        notes = [where, *([f"each point the mean of {most} steps"] if most > 1 else [])]
        drawn = curves(lines, key=f"{key}-{column}", label=title, share=column == "top1_agreement")
        figures.append(tag("figure", Html(drawn), tag("figcaption", tag("b", title), " " + ", ".join(notes))))
    return tag("div", *figures, class_="grid") if figures else None


def heldout_curve(run: Run, metric: str) -> tuple[list[float], list[float]]:
    """The held-out values over steps; those from before and after training end the line where it lacks them."""
    x, y = run.curve(metric, phase="heldout")
    before, after = run.number("metrics", "before", metric), run.number("metrics", "after", metric)
    steps = run.number("steps")
    if before is not None and (not x or x[0] > 0):
        x, y = [0.0, *x], [before, *y]
    if after is not None and steps and x[-1:] != [float(steps)]:
        x, y = [*x, float(steps)], [*y, after]
    return x, y
