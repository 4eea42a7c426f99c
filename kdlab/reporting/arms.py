"""Do two settings differ? Each an arm of runs over seeds, compared over the seeds that both have."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TypeVar

from kdlab.reporting.comparison import Group
from kdlab.reporting.intervals import Paired, paired
from kdlab.reporting.numbers import NONE, chance, number, percent, points
from kdlab.reporting.stages import Metric, measured

MOST_PAIRS = 15
"""Six arms against each other. Where there are more pairs, all arms are compared with the first alone."""

TEST = (
    "First setting minus second, over the seeds that both have: mean ± half the width of its 95 % interval, and the p "
    "of the paired t-test, two-sided."
)


def pair_cells(groups: Sequence[Group]) -> tuple[list[str], list[list[str]], str]:
    """The head and rows of the table of differences as text, and what to know about them; no rows where no two groups
    have two seeds in common."""
    metrics = measured([run for group in groups for run in group.runs], minor=False)
    shown, hidden = shown_pairs(groups)
    rows = []
    for first, second in shown:
        seeds = [seed for seed in first.seeds if seed in second.seeds]
        if len(seeds) >= 2:
            cells = [_cell(_paired(first, second, seeds, metric), metric) for metric in metrics]
            rows.append([f"{first.label} − {second.label}", str(len(seeds)), ", ".join(seeds), *cells])
    better = [metric.short for metric in metrics if metric.lower]
    note = f"Below 0 the first is better for {', '.join(better)}" if better else ""
    note += "; above 0 for the others." if better and len(better) < len(metrics) else "."
    if len(rows) > 1:
        note += f" The p are not corrected for {len(rows)} comparisons."
    if hidden:
        note += f" {hidden} further pairs are not shown: compare fewer settings at a time."
    return ["difference", "n", "seeds", *(metric.short for metric in metrics)], rows, note


Arm = TypeVar("Arm")


def shown_pairs(arms: Sequence[Arm]) -> tuple[list[tuple[Arm, Arm]], int]:
    """Each two of them, or, where that is more than `MOST_PAIRS`, each with the first alone; and how many are not."""
    pairs = list(combinations(arms, 2))
    shown = pairs if len(pairs) <= MOST_PAIRS else [(arms[0], other) for other in arms[1:]]
    return shown, len(pairs) - len(shown)


def _paired(first: Group, second: Group, seeds: Sequence[str], metric: Metric) -> Paired | None:
    """None where a run of either lacks the metric."""
    sides = [[metric.of(group.runs[group.seeds.index(seed)], "after") for seed in seeds] for group in (first, second)]
    known = [[value for value in side if value is not None] for side in sides]
    return paired(*known) if all(len(side) == len(seeds) for side in known) else None


def _cell(found: Paired | None, metric: Metric) -> str:
    if found is None:
        return NONE
    show = metric.show
    if found.half_width is None:
        return f"{show(found.difference)} (the same for every seed)"
    width = show(found.half_width) if show in (percent, points) else number(found.half_width, digits=2)
    return f"{show(found.difference)} ± {width} ({chance(found.p)})"
