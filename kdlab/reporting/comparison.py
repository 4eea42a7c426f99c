"""Many runs side by side: what differs between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from kdlab.reporting.decisions import majority
from kdlab.reporting.numbers import NONE, duration, number, percent, times
from kdlab.reporting.runs import Run
from kdlab.reporting.stages import METRICS, Metric, measured
from kdlab.reporting.verdict import kl_gap_closed

SEED = "seed"
_ABSENT = object()


def settings(run: Run) -> dict[str, str]:
    """The overrides of a run by option, the last one winning: {"loss.temperature": "2"}.

    Of a stage of a pipeline they are the pipeline's: its own name the folders of earlier stages, which differ from fold
    to fold where nothing else does.
    """
    found = {}
    for override in (run.pipeline or run).overrides:
        option, equals, value = override.partition("=")
        found[option.lstrip("+")] = value if equals else ""
    return found | run.meant


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
    """Finished runs by their KL after training, then those without a teacher by their log-loss, then the rest; where
    all are classifiers, by their accuracy (or error) on the hold-out test or else the held-out part."""
    if by := _ranking(runs):
        return sorted(runs, key=lambda run: _place(run, by))

    def place(run: Run) -> tuple[bool, bool, bool, float]:
        kl, nll = run.number("metrics", "after", "kl"), run.number("metrics", "after", "nll")
        found = kl if kl is not None else nll
        known = found is not None and not math.isnan(found)
        return (not run.finished, not known, known and kl is None, found if known and found is not None else 0.0)

    return sorted(runs, key=place)


def _ranking(runs: Sequence[Run]) -> Metric | None:
    """The metric that classifiers are ranked by: the first that every finished one has."""
    finished = [run for run in runs if run.finished]
    if not finished or not all(run.decides for run in finished):
        return None
    wanted = ("test.accuracy", "accuracy", "test.rmse", "rmse")
    metrics = [metric for key in wanted for metric in METRICS if metric.key == key]
    return next((metric for metric in metrics if all(metric.of(run, "after") is not None for run in finished)), None)


def _place(run: Run, by: Metric) -> tuple[bool, bool, float]:
    found = by.of(run, "after")
    known = found is not None and not math.isnan(found)
    return not run.finished, not known, (found if by.lower else -found) if known and found is not None else 0.0


def order_told(runs: Sequence[Run]) -> str:
    """How `ranked` orders these runs, in words."""
    if by := _ranking(runs):
        where = " on the hold-out test" if by.of_test else ""
        return f"the {'lowest' if by.lower else 'highest'} {by.title.removesuffix(', test')}{where} first"
    order = "the lowest KL to the teacher first"
    if any(run.finished and run.number("metrics", "after", "kl") is None for run in runs):
        order += ", then those without a teacher, the lowest log-loss first"
    return order


def labels(runs: Sequence[Run]) -> list[str]:
    """A short name for each run that tells it from the others: what varies, else its name, else its folder."""
    options = varying(runs)
    several = len({run.title for run in runs}) > 1
    found = []
    for run in runs:
        parts = [run.title] if several else []
        parts += [f"{option}={setting(run, option)}" for option in options]
        found.append(" ".join(parts) or run.title)
    if len(set(found)) == len(found):
        return found
    return [
        f"{label} ({run.folder.name})" if found.count(label) > 1 else label
        for label, run in zip(found, runs, strict=True)
    ]


def cells(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """The head and rows of the comparison as text; the terminal shows the same."""
    options = varying(runs)
    several = len({run.title for run in runs}) > 1 or not options
    metrics = [metric for metric in measured(runs, minor=False) if metric.key != "nll"]
    head = (["run"] if several else []) + options + ["state"]
    for metric in metrics:
        head += [metric.short, *([_BESIDE[metric.key][0]] if metric.key in _BESIDE else [])]
    head += ["student parameters", "smaller", "time"]
    rows = []
    for run in runs:
        name = run.title if len({other.title for other in runs}) > 1 else run.folder.name
        row = [*([name] if several else []), *(setting(run, option) for option in options), run.status]
        for metric in metrics:
            beside = [_BESIDE[metric.key][1](run)] if metric.key in _BESIDE else []
            row += [_change(run, metric), *beside]
        row += [
            number(run.number("models", "student", "parameters")),
            times(run.number("compression_ratio")),
            duration(run.number("seconds", "total")),
        ]
        rows.append(row)
    return head, rows


_BESIDE: dict[str, tuple[str, Callable[[Run], str]]] = {
    "kl": ("KL gap closed", lambda run: percent(kl_gap_closed(run))),
    "accuracy": ("commonest class", lambda run: percent(majority(run, "heldout"))),
    "test.accuracy": ("commonest class, test", lambda run: percent(majority(run, "test"))),
}
"""A column that stands beside a metric's: its head, and what it says of a run."""


def _change(run: Run, metric: Metric) -> str:
    before, after = (metric.told(run, who) for who in ("before", "after"))
    if metric.show is percent:
        return after
    return NONE if before == after == NONE else f"{before} → {after}"


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
