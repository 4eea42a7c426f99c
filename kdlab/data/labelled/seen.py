"""Whether a model has learnt from rows that it is to be judged by: the `folds.json` of its run tells.

seen_by(Path("multirun/teacher/default/model"), labelled.parts)  # {"heldout": 0, "test": 0}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kdlab.data.labelled.record import FOLDS
from kdlab.durable import read_json

if TYPE_CHECKING:
    from kdlab.data.labelled.reading import LabelledRows


def seen_by(folder: Path | None, parts: Mapping[str, LabelledRows]) -> dict[str, int]:
    """How many rows of each part but "train" the run that `folder` (its model/ or adapter/) lies in learnt from.
    {} where no `folds.json` tells, so that nothing is known."""
    told = None if folder is None else read_json(folder.resolve().parent / FOLDS)
    learnt = told.get("parts", {}).get("train") if isinstance(told, dict) else None
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


def said_seen(seen: Mapping[str, int], parts: Mapping[str, LabelledRows], who: str) -> list[str]:
    """A line for each part that a model has learnt from, none where it has not."""
    return [
        f"{who}: has learnt from {count:,} of the {len(parts[name]):,} {name} rows, so what is measured on them "
        "flatters; its run and this one must have one dataset.fold and dataset.split_seed"
        for name, count in seen.items()
        if count
    ]
