"""The page's part on the data: what it turned out to be, its classes, its folds, and what leaks between parts."""

from __future__ import annotations

import json
from typing import Any

from kdlab.reporting.classes import label_counts, usual_of_data
from kdlab.reporting.details import flat, plain
from kdlab.reporting.labels_plot import label_distribution
from kdlab.reporting.markup import Html, Part, pairs, section, table, tag
from kdlab.reporting.numbers import number
from kdlab.reporting.plots import drawable
from kdlab.reporting.runs import Run

FOLDS = "folds.json"
KINDS = (("group", "the same group"), ("text", "the same text"), ("near", "nearly the same text"))
OWN_TABLES = ("counts", "leakage", "majority", "names", "rows")
"""What of `classes` and `folds` is shown as tables and plots, and not in the list of facts."""


def data(run: Run, *, key: str, pictures: bool = True) -> Html | None:
    """Format, rows, cuts, skips as they are told; what is empty is left out."""
    found = run.value("data")
    if not isinstance(found, dict):
        return None
    facts = {
        name: _bare(value) if name in ("classes", "folds") else value
        for name, value in found.items()
        if name != "leakage"
    }
    told = [(name.replace("_", " ").replace(".", ": "), value) for name, value in flat(facts, show=plain) if value]
    counts, leaks = label_counts(run), _leaks(run)
    drawn = _folds(run, key=key) if pictures and drawable() else None
    if not told and not counts:
        return None
    return section(
        "Data",
        pairs(told),
        tag("h3", "Classes") if counts else None,
        counts,
        tag("p", usual, class_="soft after") if (usual := usual_of_data(run)) else None,
        tag("h3", "Folds") if drawn else None,
        drawn,
        tag("h3", "What parts have in common") if leaks else None,
        leaks,
    )


def _bare(found: Any) -> Any:
    if not isinstance(found, dict):
        return found
    return {name: value for name, value in found.items() if name not in OWN_TABLES}


def _folds(run: Run, *, key: str) -> Html | None:
    counts, names = fold_counts(run)
    if not counts:
        return None
    drawn = label_distribution(counts, names, key=f"{key}-folds")
    held = run.number("data", "folds", "fold")
    said = f", of which {number(held)} is held out here" if held is not None else ""
    caption = tag("figcaption", tag("b", "Classes in each fold"), said)
    return tag("div", tag("figure", Html(drawn), caption), class_="grid")


def fold_counts(run: Run) -> tuple[list[list[int]], list[str]]:
    """Rows by fold and class, and the classes' names, from folds.json beside the run or from the run itself; empty
    where neither tells."""
    for found in (run.value("data", "folds"), _beside(run)):
        counts = found.get("counts") if isinstance(found, dict) else None
        names = run.value("data", "classes", "names") or (found.get("classes") if isinstance(found, dict) else None)
        if isinstance(counts, list) and counts and isinstance(names, list):
            names = [str(name) for name in names]
            rows = [[one.get(name, 0) for name in names] if isinstance(one, dict) else one for one in counts]
            if all(isinstance(row, list) and len(row) == len(names) and names for row in rows):
                return rows, names
    return [], []


def _beside(run: Run) -> Any:
    try:
        return json.loads((run.folder / (run.text("files", "folds") or FOLDS)).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return None


def _leaks(run: Run) -> Html | None:
    """Of each two parts, how many rows of the second are found in the first."""
    pairs_found = run.value("data", "folds", "leakage", "pairs") or run.value("data", "leakage", "pairs")
    if not isinstance(pairs_found, dict) or not pairs_found:
        return None
    lines: list[list[Part]] = []
    for name, told in pairs_found.items():
        one = Run(folder=run.folder, record=told if isinstance(told, dict) else {})
        learnt, _, judged = str(name).partition("/")
        lines.append(
            [f"{judged} in {learnt}", number(one.number("rows")), *(number(one.number(kind)) for kind, _ in KINDS)]
        )
    near = run.text("data", "folds", "leakage", "near_is") or run.text("data", "leakage", "near_is")
    note = (
        tag("p", f"Nearly the same: {near}; rows counted before are not counted again.", class_="soft after")
        if near
        else Html("")
    )
    return Html(table(["rows of", "rows", *(title for _, title in KINDS)], lines) + note)
