"""Do two settings differ? Each an arm of runs over seeds or folds, compared over those that both have."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TypeVar

from kdlab.reporting.intervals import Paired, paired
from kdlab.reporting.numbers import NONE, chance, number, percent, points
from kdlab.reporting.repeat_table import columns
from kdlab.reporting.repeats import Group, Repeat, independent, overlap
from kdlab.reporting.stages import Metric, measured

MOST_PAIRS = 15
"""Six arms against each other. Where there are more pairs, all arms are compared with the first alone."""

TEST = (
    "First setting minus second, over the seeds that both have: mean ± half the width of its 95 % interval, and the p "
    "of the paired t-test, two-sided."
)
FOLD_TEST = (
    "First setting minus second, over the folds that both have, with the same seeds: mean ± half the width of its 95 % "
    "interval, and the p of the corrected resampled t-test, two-sided: t = mean / (sd · √(1/n + n_test/n_train)) with "
    "n - 1 degrees of freedom (Nadeau and Bengio, 2003). The plain paired t-test takes folds for independent, which "
    "they are not, since they share training rows: it finds differences that are not there too often."
)


def how_tested(groups: Sequence[Group]) -> str:
    """Which test the differences are judged by."""
    tests = {FOLD_TEST if group.by_fold else TEST: None for group in groups}
    return " ".join(tests)


def pair_cells(groups: Sequence[Group]) -> tuple[list[str], list[list[str]], str]:
    """The head and rows of the table of differences as text, and what to know about them; no rows where no two groups
    have two seeds, or two folds, in common."""
    metrics = measured([run for group in groups for run in group.runs], minor=False)
    named = columns(groups)
    shown, hidden = shown_pairs(groups)
    rows = []
    for first, second in shown:
        common = [repeat for repeat in first.repeats if repeat in second.repeats]
        by = {
            "folds": list(dict.fromkeys(repeat.fold for repeat in common)),
            "seeds": list(dict.fromkeys(repeat.seed for repeat in common)),
        }
        unit = "folds" if len(by["folds"]) > 1 else "seeds"
        if len(by[unit]) >= 2:
            cells = [_cell(_paired(first, second, common, metric), metric, unit.rstrip("s")) for metric in metrics]
            names = [", ".join(by[name]) for name in named]
            rows.append([f"{first.label} − {second.label}", str(len(by[unit])), *names, *cells])
    better = [metric.short for metric in metrics if metric.lower]
    note = f"Below 0 the first is better for {', '.join(better)}" if better else ""
    note += "; above 0 for the others." if better and len(better) < len(metrics) else "."
    if len(rows) > 1:
        note += f" The p are not corrected for {len(rows)} comparisons."
    if hidden:
        note += f" {hidden} further pairs are not shown: compare fewer settings at a time."
    return ["difference", "n", *named, *(metric.short for metric in metrics)], rows, note


Arm = TypeVar("Arm")


def shown_pairs(arms: Sequence[Arm]) -> tuple[list[tuple[Arm, Arm]], int]:
    """Each two of them, or, where that is more than `MOST_PAIRS`, each with the first alone; and how many are not."""
    pairs = list(combinations(arms, 2))
    shown = pairs if len(pairs) <= MOST_PAIRS else [(arms[0], other) for other in arms[1:]]
    return shown, len(pairs) - len(shown)


def _paired(first: Group, second: Group, common: Sequence[Repeat], metric: Metric) -> Paired | None:
    """None where a run of either lacks the metric."""
    sides, runs = [], []
    for group in (first, second):
        found = {repeat: group.runs[group.repeats.index(repeat)] for repeat in common}
        values = {repeat: metric.of(run, "after") for repeat, run in found.items()}
        known = {repeat: value for repeat, value in values.items() if value is not None}
        if len(known) < len(common):
            return None
        sides.append(list(independent(known).values()))
        runs += list(found.values())
    over_folds = len({repeat.fold for repeat in common}) > 1
    return paired(*sides, overlap=overlap(runs) if over_folds else 0.0)


def _cell(found: Paired | None, metric: Metric, unit: str) -> str:
    if found is None:
        return NONE
    show = metric.show
    if found.half_width is None:
        return f"{show(found.difference)} (the same for every {unit})"
    width = show(found.half_width) if show in (percent, points) else number(found.half_width, digits=2)
    return f"{show(found.difference)} ± {width} ({chance(found.p)})"
