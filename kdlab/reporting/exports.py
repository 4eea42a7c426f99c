"""What `kdlab export` wrote: the variants of a model beside the model itself."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from kdlab.reporting.comparison import labels, settings
from kdlab.reporting.markup import Html, fold, join, section, table, tag
from kdlab.reporting.numbers import NONE, milliseconds, number, percent, size, times
from kdlab.reporting.repeats import REPEATED
from kdlab.reporting.runs import Run

EXPORT = "export.json"
ORIGINAL = "torch"
"""The name of the entry that is the model itself; it is missing where no variant could be held against it."""


class Column(NamedTuple):
    """A number of a variant: where it lies, its title, and how it is written."""

    keys: tuple[str, ...]
    title: str
    show: Callable[[float | None], str]


COLUMNS = (
    Column(("disk_bytes",), "on disk", size),
    Column(("memory_bytes",), "in memory", size),
    Column(("accuracy",), "accuracy", percent),
    Column(("macro_f1",), "macro-F1", percent),
    Column(("rmse",), "RMSE", number),
    Column(("agreement",), "agreement", percent),
    Column(("kl",), "KL (nats)", number),
    Column(("latency", "p50_ms"), "p50", milliseconds),
    Column(("latency", "p95_ms"), "p95", milliseconds),
    Column(("examples_per_second",), "examples/s", lambda value: number(value, digits=3)),
    Column(("faster_than_torch",), "one text, beside torch", times),
    Column(("faster_in_batches",), "in batches, beside torch", times),
)
"""Agreement is how often a variant decides as the original does, KL is KL(original ‖ variant); `beside torch` says how
many times as long the original took for the same texts."""
SHARE = "of the original's size"


def variants(export: Run) -> list[Run]:
    """The variants that an export.json tells of, the original first."""
    found = export.value("variants")
    return (
        [Run(folder=export.folder, record=one) for one in found if isinstance(one, dict)]
        if isinstance(found, list)
        else []
    )


def export_cells(export: Run) -> tuple[list[str], list[list[str]]]:
    """The head and rows of one export's table; numbers that no variant has make no column."""
    found = variants(export)
    shown = [column for column in COLUMNS if any(one.number(*column.keys) is not None for one in found)]
    original = next((one.number("disk_bytes") for one in found if one.name == ORIGINAL), None)
    rows = []
    for one in found:
        disk = one.number("disk_bytes")
        share = percent(disk / original) if disk and original else NONE
        cells = [column.show(one.number(*column.keys)) for column in shown]
        rows.append([one.name, _status(one), *cells[:1], *([share] if shown else []), *cells[1:]])
    head = [column.title for column in shown]
    return ["variant", "is it good?", *head[:1], *([SHARE] if shown else []), *head[1:]], rows


def joined_cells(exports: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """The head and rows of the table of many exports: the mean over those that differ in seed or fold only."""
    members: dict[tuple[str, str], list[Run]] = {}
    for export, label in zip(exports, _settings(exports), strict=True):
        for one in variants(export):
            members.setdefault((label, one.name), []).append(one)
    found = [one for group in members.values() for one in group]
    shown = [column for column in COLUMNS if any(one.number(*column.keys) is not None for one in found)]
    several = len({label for label, _ in members}) > 1
    rows = []
    for (label, name), group in members.items():
        good = sum(one.text("status") == "good" for one in group)
        cells = [column.show(_mean([one.number(*column.keys) for one in group])) for column in shown]
        rows.append([*([label] if several else []), name, f"{good} of {len(group)}", *cells])
    return [*(["export"] if several else []), "variant", "good", *(column.title for column in shown)], rows


def note(exports: Sequence[Run]) -> str:
    """What was asked of a variant to be called good."""
    parts = []
    rows = {export.text("rows"): None for export in exports if export.text("rows")}
    parts += [f"Each was run on {next(iter(rows))}."] if len(rows) == 1 else []
    notes = {str(line): None for export in exports for line in export.value("notes") or []}
    told = {_asked(export): None for export in exports}
    parts += [f"{line}." for line in notes]
    parts += [f"A variant is good with {asked}." for asked in told if asked]
    return " ".join(parts)


def _asked(export: Run) -> str:
    agreement = export.number("threshold", "agreement") or export.number("config", "agreement")
    kl = export.number("threshold", "kl") or export.number("config", "kl")
    measured = [one for one in variants(export) if one.number("agreement") is not None]
    if not measured:
        return ""
    if all(one.number("kl") is not None and one.number("accuracy") is None for one in measured):  # it writes text
        return f"a KL of at most {number(kl)}" if kl is not None else ""
    return f"an agreement of at least {percent(agreement)}" if agreement is not None else ""


def told(exports: Sequence[Run]) -> Html | None:
    """The page's part on exports."""
    if not exports:
        return None
    said = tag("p", note(exports), class_="soft") if note(exports) else None
    if len(exports) == 1:
        return section("Variants", said, _table(*export_cells(exports[0])))
    each = [
        fold(f"{label}: {export.status}", _table(*export_cells(export)))
        for export, label in zip(exports, labels(exports), strict=True)
    ]
    return section("Variants", said, tag("p", MEANS, class_="soft"), _table(*joined_cells(exports)), join(each))


MEANS = "Means over exports that differ in their seed or fold only; each is below."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    return table([*head], [[*row] for row in rows])


def _settings(exports: Sequence[Run]) -> list[str]:
    """What tells exports apart but their seed and fold."""
    found = []
    for export in exports:
        rest = [f"{key}={value}" for key, value in sorted(settings(export).items()) if key not in REPEATED]
        found.append((export.title, " ".join(rest)))
    several = len(set(found)) > len({title for title, _ in found})
    return [f"{title} {rest}".strip() if several else title for title, rest in found]


def _status(one: Run) -> str:
    status, reason = one.text("status"), one.text("reason")
    return f"{status}: {reason}" if reason and status != "good" else status or NONE


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
