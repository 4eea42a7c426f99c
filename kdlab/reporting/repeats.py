"""Runs that repeat one setting: under other seeds, on other folds of the data, or both."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kdlab.reporting.comparison import SEED, setting, settings, varying
from kdlab.reporting.intervals import Interval, interval
from kdlab.reporting.runs import Run
from kdlab.reporting.stages import METRICS

FOLD = "dataset.fold"
REPEATED = (SEED, FOLD, "fold")
"""Options that make a repeat of a setting, and no other setting; `fold` is a pipeline's."""


class Repeat(NamedTuple):
    """What tells repeats of a setting apart; "" where a run has none of it."""

    seed: str
    fold: str


@dataclass(frozen=True, kw_only=True)
class Group:
    """Finished runs that differ in their seed or fold only, one for each. `intervals` is by metric of `metrics.after`;
    `left_out` are the folders of runs that repeat both: they are no repeats. `overlap` is n_test / n_train of a fold, 0
    of seeds alone."""

    label: str
    runs: list[Run]
    repeats: list[Repeat]
    intervals: dict[str, Interval]
    left_out: list[str]
    overlap: float

    @property
    def seeds(self) -> list[str]:
        """Each seed once, in the order of the runs."""
        return list(dict.fromkeys(repeat.seed for repeat in self.repeats))

    @property
    def folds(self) -> list[str]:
        """Each fold once, [""] where there are none."""
        return list(dict.fromkeys(repeat.fold for repeat in self.repeats))

    @property
    def by_fold(self) -> bool:
        return len(self.folds) > 1


def repeat_groups(runs: Sequence[Run]) -> list[Group]:
    """Groups of finished runs with the same name and settings but two or more seeds or folds.

    Of runs with the same seed and fold the one whose folder comes first counts, whatever its results.
    """
    members: dict[tuple[str, bool, tuple[tuple[str, str], ...]], list[Run]] = {}
    for run in runs:
        if run.finished:
            rest = tuple(sorted((option, value) for option, value in settings(run).items() if option not in REPEATED))
            members.setdefault((run.title, bool(fold_of(run)), rest), []).append(run)
    options = [option for option in varying(runs) if option not in REPEATED]
    several = len({run.title for run in runs}) > 1
    groups = []
    for (title, _, _), found_runs in members.items():
        counted, left_out = _one_each(found_runs)
        if len(counted) < 2:
            continue
        parts = [title] if several or not options else []
        label = " ".join(parts + [f"{option}={setting(next(iter(counted.values())), option)}" for option in options])
        groups.append(_group(label, counted, left_out))
    return groups


def _group(label: str, counted: dict[Repeat, Run], left_out: list[Run]) -> Group:
    shared = overlap(list(counted.values())) if len({repeat.fold for repeat in counted}) > 1 else 0.0
    found = {}
    for metric in METRICS:
        values = {repeat: metric.of(run, "after") for repeat, run in counted.items()}
        known = {repeat: value for repeat, value in values.items() if value is not None}
        if known:
            found[metric.key] = interval(list(independent(known).values()), overlap=shared)
    return Group(
        label=label,
        runs=list(counted.values()),
        repeats=list(counted),
        left_out=[run.folder.name for run in left_out],
        intervals=found,
        overlap=shared,
    )


def independent(values: dict[Repeat, float]) -> dict[str, float]:
    """What counts as one repeat each: a seed, or, where there are several folds, a fold, with the mean of its seeds."""
    if len({repeat.fold for repeat in values}) < 2:
        return {repeat.seed: value for repeat, value in values.items()}
    folds: dict[str, list[float]] = {}
    for repeat, value in values.items():
        folds.setdefault(repeat.fold, []).append(value)
    return {fold: statistics.fmean(found) for fold, found in folds.items()}


def overlap(runs: Sequence[Run]) -> float:
    """The mean of n_test / n_train over these runs, each on a fold; where they do not count their rows, 1 / (k - 1) of
    k folds (all that are here, where they do not tell k)."""
    known = [share for share in map(_overlap, runs) if share is not None]
    return statistics.fmean(known) if known else 1 / max(len({fold_of(run) for run in runs}) - 1, 1)


def _overlap(run: Run) -> float | None:
    train, heldout = (_rows(run, part) for part in ("train", "heldout"))
    if train and heldout:
        return heldout / train
    folds = run.number("data", "folds", "folds") or run.number("config", "dataset", "folds")
    return 1 / (folds - 1) if folds and folds > 1 else None


def _rows(run: Run, part: str) -> float | None:
    """How many rows a part of the data has."""
    if rows := run.number("data", "folds", "rows", part):
        return rows
    counts = run.value("data", "classes", "counts", part)
    counted = [count for count in counts.values() if isinstance(count, int)] if isinstance(counts, dict) else []
    return sum(counted) or run.number("data", part, "examples")


def left_out(groups: Sequence[Group]) -> str:
    """Which runs are in no interval since they repeat a seed (and fold); "" where none is."""
    folders = [folder for group in groups for folder in group.left_out]
    what = "seed and fold" if any(any(group.folds) for group in groups) else "seed"
    return f"Left out, for the same {what} as another run: {', '.join(folders)}." if folders else ""


def _one_each(runs: Sequence[Run]) -> tuple[dict[Repeat, Run], list[Run]]:
    """The runs that count, by seed and fold, and those that repeat one of these."""
    counted: dict[Repeat, Run] = {}
    again = []
    for run in sorted(runs, key=lambda run: str(run.folder)):
        repeat = Repeat(seed=seed_of(run), fold=fold_of(run))
        if repeat in counted:
            again.append(run)
        else:
            counted[repeat] = run

    def place(found: tuple[Repeat, Run]) -> tuple[float, float]:
        return float(found[0].fold or -1), found[1].number("seeds", SEED) or 0

    return dict(sorted(counted.items(), key=place)), again


def seed_of(run: Run) -> str:
    return run.text("seeds", SEED) or setting(run, SEED)


def fold_of(run: Run) -> str:
    """The fold that was held out; "" where there are no folds."""
    fold = run.number("config", "dataset", "fold")
    fold = run.number("data", "folds", "fold") if fold is None else fold
    return "" if fold is None else str(int(fold))
