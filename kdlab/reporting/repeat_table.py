"""Repeats of each setting as tables: mean, spread and interval over its seeds or folds, and what these mean."""

from __future__ import annotations

from collections.abc import Sequence

from kdlab.reporting.intervals import Interval
from kdlab.reporting.numbers import NONE, number, percent, points
from kdlab.reporting.repeats import Group, left_out
from kdlab.reporting.stages import Metric, Show, measured

OVER_SEEDS = (
    "Mean ± half the width of the 95 % interval of the mean (Student's t), then the sample standard deviation, "
    "over finished runs that differ in their seed only."
)
OVER_FOLDS = (
    "Mean ± half the width of the 95 % interval of the mean, then the sample standard deviation, over finished runs "
    "that differ in their fold (and seed) only. Any two folds train on mostly the same rows, so they are no "
    "independent repeats, and Student's interval would be too narrow: the variance of a mean of n folds is taken as "
    "sd² · (1/n + n_test/n_train) instead of sd²/n (Nadeau and Bengio, 2003)"
)
SEEDS_FIRST = "Seeds of one fold share all its rows: their mean counts as one repeat."
SAME_TEST = (
    "The hold-out test is the same rows in every fold: intervals of what was measured on it tell how results vary with "
    "the training, not how they would on other test rows."
)


def told(groups: Sequence[Group]) -> str:
    """What the table over repeats is, and what its intervals are not."""
    parts = [OVER_SEEDS] if any(not group.by_fold for group in groups) else []
    folds = [group for group in groups if group.by_fold]
    if folds:
        shares = sorted({number(group.overlap, digits=3) for group in folds})
        parts.append(f"{OVER_FOLDS}; n_test/n_train is {' or '.join(shares)} here.")
        parts += [SEEDS_FIRST] if any(len(group.runs) > len(group.folds) for group in folds) else []
        parts += [SAME_TEST] if any(metric.of_test for metric in measured([folds[0].runs[0]])) else []
    return " ".join([*parts, *filter(None, [left_out(groups)])])


def over(groups: Sequence[Group]) -> str:
    """ "seeds", "folds", or both."""
    kinds = dict.fromkeys("folds" if group.by_fold else "seeds" for group in groups)
    return " and ".join(sorted(kinds, reverse=True))


def columns(groups: Sequence[Group]) -> list[str]:
    """Which of seeds and folds a table names."""
    seeds = any(not group.by_fold or len(group.seeds) > 1 for group in groups)
    return (["folds"] if any(group.by_fold for group in groups) else []) + (["seeds"] if seeds else [])


def repeat_cells(groups: Sequence[Group]) -> tuple[list[str], list[list[str]]]:
    """The head and rows of the table over repeats as text; n counts folds where there are several, else seeds."""
    metrics = measured([run for group in groups for run in group.runs], minor=False)
    named = columns(groups)
    head = ["setting", "n", *named, *(metric.title for metric in metrics)]
    rows = []
    for group in groups:
        shown = [
            interval_cell(group.intervals[metric.key], metric.show) if metric.key in group.intervals else NONE
            for metric in metrics
        ]
        names = [", ".join(group.folds if name == "folds" else group.seeds) for name in named]
        rows.append([group.label, str(len(group.folds if group.by_fold else group.runs)), *names, *shown])
    return head, rows


def metric_cells(groups: Sequence[Group]) -> tuple[list[str], list[list[str]]]:
    """The head and rows of a table with a row for every metric and group, the minor ones too."""
    head = ["metric", "setting", "n", "mean", "95 % interval", "sd"]
    rows = []
    for metric in measured([run for group in groups for run in group.runs]):
        for group in groups:
            if found := group.intervals.get(metric.key):
                rows.append([metric.title, group.label, str(found.n), metric.show(found.mean), *_limits(found, metric)])
    return head, rows


def _limits(found: Interval, metric: Metric) -> list[str]:
    if found.half_width is None or found.sd is None:
        return [NONE, NONE]
    limits = [metric.show(found.mean + side * found.half_width) for side in (-1, 1)]
    return [" to ".join(limits), _spread(found.sd, metric.show)]


def interval_cell(found: Interval, show: Show) -> str:
    """2.200 ± 0.66 (sd 0.26)."""
    if found.half_width is None or found.sd is None:
        return f"{show(found.mean)} (n = 1)"
    return f"{show(found.mean)} ± {_spread(found.half_width, show)} (sd {_spread(found.sd, show)})"


def _spread(value: float, show: Show) -> str:
    return show(value) if show in (percent, points) else number(value, digits=2)
