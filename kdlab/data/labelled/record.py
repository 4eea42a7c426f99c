"""folds.json: which rows are in which part and fold, of which source, and what leaks. The same for the same data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.data.labelled.telling import fold_spreads, spread
from kdlab.data.labels import FOLDS
from kdlab.durable import write_atomically

if TYPE_CHECKING:
    from kdlab.data.labelled.folds import FoldSplit
    from kdlab.data.labelled.leakage import Leakage
    from kdlab.data.labelled.reading import LabelledRows
    from kdlab.data.labelled.rows import Labelled

SCHEMA = 1


def write_folds(
    folder: Path,
    *,
    head: dict[str, Any],
    folds: FoldSplit | None,
    pool: LabelledRows | None,
    parts: dict[str, dict[str, Any]],
    leakage: Leakage,
) -> None:
    """Write `folds.json`. `rows` are row numbers of the source from 0, a list a fold; null where there are no folds."""
    listed = counts = spreads = None
    if folds is not None and pool is not None:
        listed = [pool.numbers[folds.fold_N == k].tolist() for k in range(folds.folds)]
        counts, spreads = folds.counts, fold_spreads(folds, pool)
    record = {
        "schema": SCHEMA,
        **head,
        "by": None if folds is None else folds.by,
        "folds": None if folds is None else folds.folds,
        "fold": None if folds is None else folds.fold,
        "rows": listed,
        "counts": counts,
        "spread": spreads,
        "notes": [] if folds is None else folds.notes,
        "parts": parts,
        "leakage": leakage.as_dict(),
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in record.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    write_atomically(folder / FOLDS, lambda file: file.write(text.encode()))


def part_record(rows: LabelledRows, counts: dict[str, int]) -> dict[str, Any]:
    """Where the rows of a part come from, and which they are."""
    return {
        "source": rows.source,
        "content_hash": rows.content_hash,
        "rows": rows.numbers.tolist(),
        "counts": counts,
        "spread": None if rows.values is None else spread(rows.values),
        "skipped": rows.skipped,
    }


def write_split(labelled: Labelled, folder: Path) -> None:
    """`folds.json` of one split: of a fold, or of whatever else is held out."""
    write_folds(
        folder,
        head={
            "column": labelled.task.column,
            "classes": list(labelled.task.names),
            "group": labelled.group,
            "seed": labelled.seed,
            "heldout": labelled.how,
        },
        folds=labelled.folds,
        pool=labelled.pool,
        parts={name: part_record(rows, labelled.counts[name]) for name, rows in labelled.parts.items()},
        leakage=labelled.leakage,
    )
