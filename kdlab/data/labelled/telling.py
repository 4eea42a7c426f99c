"""A dataset with labels in words, and as plain values for `run.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kdlab.data.labelled.folds import FoldSplit
    from kdlab.data.labelled.reading import LabelledRows
    from kdlab.data.labelled.rows import Labelled

MANY = 12
"""With more classes than this the fewest and the most are named, not every one."""


def as_dict(labelled: Labelled) -> dict[str, Any]:
    """`classes`: what is decided and how often each comes up. `folds`: what is held out, and what leaks."""
    folds = labelled.folds
    return {
        "classes": {
            **classes_dict(labelled),
            "counts": labelled.counts,
            "majority": labelled.majority,
            "spread": spreads(labelled.parts),
            "weights": labelled.class_weights,
        },
        "folds": {
            "fold": None if folds is None else folds.fold,
            "folds": None if folds is None else folds.folds,
            "by": labelled.how if folds is None else folds.by,
            "group": labelled.group,
            "heldout": labelled.how,
            "rows": {name: len(rows) for name, rows in labelled.parts.items()},
            "skipped": {name: dict(rows.skipped) for name, rows in labelled.parts.items()},
            "notes": [] if folds is None else list(folds.notes),
            "leakage": labelled.leakage.as_dict(),
        },
    }


def classes_dict(labelled: Labelled) -> dict[str, Any]:
    """What is decided."""
    return {
        "kind": labelled.task.kind,
        "column": labelled.task.column,
        "names": list(labelled.task.names),
        "bins": None if labelled.target.bins is None else list(labelled.target.bins),
        "template": labelled.task.template,
    }


def spread(values: NDArray[np.float64]) -> dict[str, float]:
    """How the numbers of a regression are spread, or those that bins cut into classes."""
    return {
        "rows": len(values),
        "mean": float(values.mean()),
        "sd": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
    }


def spreads(parts: Mapping[str, LabelledRows]) -> dict[str, dict[str, float]] | None:
    """The spread of each part; None where the classes are of no numbers."""
    found = {name: spread(rows.values) for name, rows in parts.items() if rows.values is not None}
    return found or None


def fold_spreads(folds: FoldSplit, rows: LabelledRows) -> list[dict[str, float]] | None:
    """The spread of each fold; None where the classes are of no numbers."""
    if rows.values is None:
        return None
    return [spread(rows.values[folds.fold_N == k]) for k in range(folds.folds)]


def told(labelled: Labelled) -> str:
    """The classes, what always saying the commonest gets right, and what leaks, a few lines."""
    task = labelled.task
    lines = [f"{task.kind} by {task.column}: {'a number' if task.is_regression else f'{len(task.names)} classes'}"]
    for name, rows in labelled.parts.items():
        also = f" ({labelled.how})" if name == "heldout" else ""
        lines.append(f"  {name}{also}: {said_rows(rows, labelled.counts[name], task.column)}")
    majority = labelled.majority
    if majority is not None:
        shares = [f"{majority[part]:.1%} of {part}" for part in ("heldout", "test") if majority[part] is not None]
        lines.append(f"  always {majority['class']}: right on {' and '.join(shares)}")
    lines += [f"  note: {note}" for note in notes(labelled)]
    lines += [f"  leakage: {leak}" for leak in labelled.leakage.leaks]
    return "\n".join(lines)


def notes(labelled: Labelled) -> list[str]:
    """What is worth knowing before the numbers are read."""
    found = [] if labelled.folds is None else list(labelled.folds.notes)
    for part in labelled.counts:
        none = [name for name, count in labelled.counts[part].items() if not count]
        if none and part != "train":
            found.append(f"{part} has no row of class {', '.join(none)}")
    if any(leak.rows[kind] for leak in labelled.leakage.leaks for kind in ("group", "text")):
        found.append(
            "rows to judge by share text or group with rows to learn from, so what is measured on them flatters; "
            "dataset.fold_by=stratified_group keeps them apart"
        )
    return found


def said_counts(counts: dict[str, int]) -> str:
    """The classes with their rows and shares; of many, the fewest and the most."""
    total = max(sum(counts.values()), 1)
    if len(counts) <= MANY:
        return ", ".join(f"{name} {count:,} ({count / total:.1%})" for name, count in counts.items())
    fewest, most = min(counts, key=lambda name: counts[name]), max(counts, key=lambda name: counts[name])
    return f"{len(counts)} classes of {counts[fewest]:,} ({fewest}) to {counts[most]:,} ({most}) rows"


def said_rows(rows: LabelledRows, counts: dict[str, int], column: str) -> str:
    """The rows of a part: of a regression their numbers, else their classes, and of which numbers where bins cut them:
    one beyond what is meant, such as a rating of 99, is in the class at that end."""
    if rows.values is None:
        said = said_counts(counts)
    elif not counts:
        said = said_spread(spread(rows.values))
    else:
        said = f"{said_counts(counts)}; {column} from {rows.values.min():g} to {rows.values.max():g}"
    return f"{len(rows):,} rows; {said}{said_skipped(rows)}"


def said_spread(found: dict[str, float]) -> str:
    """The numbers of a regression."""
    return f"mean {found['mean']:.3g}, sd {found['sd']:.3g}, from {found['min']:g} to {found['max']:g}"


def said_skipped(rows: LabelledRows) -> str:
    """Which rows were left out, and why."""
    if not rows.skipped:
        return ""
    listed = ", ".join(f"{count:,} {why}" for why, count in sorted(rows.skipped.items(), key=lambda item: -item[1]))
    return f"; {sum(rows.skipped.values()):,} left out ({listed})"


def fold_lines(folds: FoldSplit, names: tuple[str, ...], found: Sequence[dict[str, float]] | None) -> list[str]:
    """A line a fold: its rows, by class, or of a regression how their numbers are spread."""
    sizes = np.bincount(folds.fold_N, minlength=folds.folds).tolist()
    lines = []
    for k, counts in enumerate(folds.counts):
        said = said_counts(dict(zip(names, counts, strict=True))) if counts or found is None else said_spread(found[k])
        lines.append(f"  fold {k}: {sizes[k]:,} rows; {said}")
    return lines
