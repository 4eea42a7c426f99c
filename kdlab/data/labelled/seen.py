"""Whether a model has learnt from rows that it is to be judged by: the `folds.json` of its run tells, or, of a model
that was exported, the one that went with it.

seen_by(Path("multirun/teacher/default/model"), labelled.parts)  # {"heldout": 0, "test": 0}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.data.labelled.record import SCHEMA
from kdlab.data.labels import FOLDS
from kdlab.durable import read_json, write_json

if TYPE_CHECKING:
    from kdlab.data.labelled.reading import LabelledRows


def seen_by(folder: Path | None, parts: Mapping[str, LabelledRows]) -> dict[str, int]:
    """How many rows of each part but "train" the model in `folder` (a variant, or model/ or adapter/ of a run) learnt
    from. {} where no `folds.json` tells, so that nothing is known."""
    learnt = _learnt(folder)
    if learnt is None:
        return {}
    numbers = set(learnt["rows"])
    return {
        name: sum(number in numbers for number in rows.numbers.tolist())
        if rows.content_hash == learnt["content_hash"]
        else 0
        for name, rows in parts.items()
        if name != "train"
    }


def keep_seen(folder: Path | None, variant: Path) -> None:
    """Write into the folder of a variant which rows the model in `folder` learnt from, where that is known."""
    learnt = _learnt(folder)
    if learnt is not None:
        kept = {name: learnt[name] for name in ("content_hash", "rows")}
        write_json(variant / FOLDS, {"schema": SCHEMA, "parts": {"train": kept}})


def _learnt(folder: Path | None) -> dict[str, Any] | None:
    """The part "train" of the `folds.json` in a folder, or in the one above."""
    for place in () if folder is None else (folder, folder.resolve().parent):
        told = read_json(place / FOLDS)
        if isinstance(told, dict):
            learnt: dict[str, Any] | None = told.get("parts", {}).get("train")
            return learnt
    return None


def said_seen(seen: Mapping[str, int], parts: Mapping[str, LabelledRows], who: str) -> list[str]:
    """A line for each part that a model has learnt from, none where it has not."""
    return [
        f"{who}: has learnt from {count:,} of the {len(parts[name]):,} {name} rows, so what is measured on them "
        "flatters; its run and this one must have one dataset.fold and dataset.split_seed"
        for name, count in seen.items()
        if count
    ]
