"""Many runs side by side: what differs between them, and what repeats under other seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kdlab.reporting import accuracy
from kdlab.reporting.intervals import Interval, interval
from kdlab.reporting.numbers import NONE, duration, number, percent, points, times
from kdlab.reporting.runs import Run
from kdlab.reporting.stages import METRICS, Metric, Show, measured
from kdlab.reporting.verdict import kl_gap_closed

SEED = "seed"
_ABSENT = object()


@dataclass(frozen=True, kw_only=True)
class Group:
    """Finished runs that differ in their seed only, one a seed. `intervals` is by metric of `metrics.after`;
    `left_out` are the folders of runs that repeat a seed: they are no independent repeats."""

    label: str
    runs: list[Run]
    seeds: list[str]
    intervals: dict[str, Interval]
    left_out: list[str]


def settings(run: Run) -> dict[str, str]:
    """The overrides of a run by option, the last one winning: {"loss.temperature": "2"}."""
    found = {}
    for override in run.overrides:
        option, equals, value = override.partition("=")
        found[option.lstrip("+")] = value if equals else ""
    return found


def varying(runs: Sequence[Run]) -> list[str]:
    """The options that were given to some run and are not the same in all, in order of first appearance."""
    options = {option: None for run in runs for option in settings(run)}
    return [option for option in options if len({_meant(setting(run, option)) for run in runs}) > 1]


def setting(run: Run, option: str) -> str:
    """What `option` is in this run: as typed, else as the resolved config has it, else "(default)"."""
    given = settings(run)
    if option in given:
        return given[option]
    found: Any = run.value("config")
    for key in option.split("."):
        found = found.get(key, _ABSENT) if isinstance(found, dict) else _ABSENT
    if isinstance(found, dict) and isinstance(found.get("name"), str):
        return str(found["name"])
    return "(default)" if found is _ABSENT or isinstance(found, dict | list) else _as_typed(found)


def ranked(runs: Sequence[Run]) -> list[Run]:
    """Finished runs by their KL after training, then those without a teacher by their log-loss, then the rest."""

    def place(run: Run) -> tuple[bool, bool, bool, float]:
        kl, nll = run.number("metrics", "after", "kl"), run.number("metrics", "after", "nll")
        found = kl if kl is not None else nll
        known = found is not None and not math.isnan(found)
        return (not run.finished, not known, known and kl is None, found if known and found is not None else 0.0)

    return sorted(runs, key=place)


def labels(runs: Sequence[Run]) -> list[str]:
    """A short name for each run that tells it from the others: what varies, else its name, else its folder."""
    options = varying(runs)
    several = len({run.name for run in runs}) > 1
    found = []
    for run in runs:
        parts = [run.name] if several else []
        parts += [f"{option}={setting(run, option)}" for option in options]
        found.append(" ".join(parts) or run.name)
    if len(set(found)) == len(found):
        return found
    return [
        f"{label} ({run.folder.name})" if found.count(label) > 1 else label
        for label, run in zip(found, runs, strict=True)
    ]


def seed_groups(runs: Sequence[Run]) -> list[Group]:
    """Groups of finished runs with the same name and settings but two or more seeds.

    Of runs with the same seed the one whose folder comes first counts, whatever its results.
    """
    members: dict[tuple[str, tuple[tuple[str, str], ...]], list[Run]] = {}
    for run in runs:
        if run.finished:
            rest = tuple(sorted((option, value) for option, value in settings(run).items() if option != SEED))
            members.setdefault((run.name, rest), []).append(run)
    options = [option for option in varying(runs) if option != SEED]
    several = len({run.name for run in runs}) > 1
    groups = []
    for (name, _), found_runs in members.items():
        group, left_out = _one_a_seed(found_runs)
        if len(group) < 2:
            continue
        parts = [name] if several or not options else []
        parts += [f"{option}={setting(group[0], option)}" for option in options]
        found = {metric.key: [metric.of(run, "after") for run in group] for metric in METRICS}
        groups.append(
            Group(
                label=" ".join(parts),
                runs=group,
                seeds=[_seed(run) for run in group],
                left_out=[run.folder.name for run in left_out],
                intervals={
                    metric: interval([value for value in values if value is not None])
                    for metric, values in found.items()
                    if any(value is not None for value in values)
                },
            )
        )
    return groups


def repeats(groups: Sequence[Group]) -> str:
    """Which runs are in no interval since they repeat a seed; "" where none is."""
    folders = [folder for group in groups for folder in group.left_out]
    return f"Left out, for the same seed as another run: {', '.join(folders)}." if folders else ""


def _one_a_seed(runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """The runs that count, by seed, and those that repeat one of their seeds."""
    counted: dict[str, Run] = {}
    left_out = []
    for run in sorted(runs, key=lambda run: str(run.folder)):
        if _seed(run) in counted:
            left_out.append(run)
        else:
            counted[_seed(run)] = run
    return sorted(counted.values(), key=lambda run: run.number("seeds", SEED) or 0), left_out


def _seed(run: Run) -> str:
    return run.text("seeds", SEED) or setting(run, SEED)


def cells(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """The head and rows of the comparison as text; the terminal shows the same."""
    options = varying(runs)
    several = len({run.name for run in runs}) > 1 or not options
    metrics = [metric for metric in measured(runs, minor=False) if metric.key != "nll"]
    head = (["run"] if several else []) + options + ["state"]
    for metric in metrics:
        head += [metric.short, "KL gap closed"] if metric.key == "kl" else [metric.short]
    head += ["student parameters", "smaller", "time"]
    rows = []
    for run in runs:
        name = run.name if len({other.name for other in runs}) > 1 else run.folder.name
        row = [*([name] if several else []), *(setting(run, option) for option in options), run.status]
        for metric in metrics:
            row += [_change(run, metric), percent(kl_gap_closed(run))] if metric.key == "kl" else [_change(run, metric)]
        row += [
            number(run.number("models", "student", "parameters")),
            times(run.number("compression_ratio")),
            duration(run.number("seconds", "total")),
        ]
        rows.append(row)
    return head, rows


def _change(run: Run, metric: Metric) -> str:
    before, after = (metric.told(run, who) for who in ("before", "after"))
    if metric.key in ("top1_agreement", accuracy.KEY):
        return after
    return NONE if before == after == NONE else f"{before} → {after}"


def seed_cells(groups: Sequence[Group]) -> tuple[list[str], list[list[str]]]:
    """The head and rows of the table over seeds as text."""
    metrics = measured([run for group in groups for run in group.runs], minor=False)
    head = ["setting", "n", "seeds", *(metric.title for metric in metrics)]
    rows = []
    for group in groups:
        told = [
            _interval(group.intervals[metric.key], metric.show) if metric.key in group.intervals else NONE
            for metric in metrics
        ]
        rows.append([group.label, str(len(group.runs)), ", ".join(group.seeds), *told])
    return head, rows


def _interval(found: Interval, show: Show) -> str:
    if found.half_width is None or found.sd is None:
        return f"{show(found.mean)} (n = 1)"
    spread = [
        show(value) if show in (percent, points) else number(value, digits=2) for value in (found.half_width, found.sd)
    ]
    return f"{show(found.mean)} ± {spread[0]} (sd {spread[1]})"


def _meant(text: str) -> str | float:
    """2 and 2.0 are the same setting."""
    try:
        return float(text)
    except ValueError:
        return text


def _as_typed(value: Any) -> str:
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
    )
