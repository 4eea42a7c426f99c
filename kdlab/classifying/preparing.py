"""`prepare`: the classes, the folds and the leaks of a dataset with labels, written down before a model is trained.

prepare(config, output_dir=Path("multirun/prepare/default"), resolved=..., overrides=[])
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdlab.classifying.recipe import PrepareConfig
from kdlab.data.labelled.folds import GROUPED, FoldSplit, make_folds
from kdlab.data.labelled.leakage import NEAR, Leakage, find_fold_leaks
from kdlab.data.labelled.record import part_record, write_folds, write_split
from kdlab.data.labelled.rows import Labelled, Pool, part_rows, read_pool, refuse_empty
from kdlab.data.labelled.telling import fold_lines, fold_spreads, said_rows, spreads
from kdlab.data.labels import FOLDS
from kdlab.durable import write_json
from kdlab.training.manifest import now, record_head

if TYPE_CHECKING:
    from kdlab.data.dataset import DatasetConfig
    from kdlab.data.labelled.reading import LabelledRows

RECORD = "prepare.json"


def prepare(
    config: PrepareConfig, *, output_dir: Path, resolved: dict[str, Any], overrides: list[str]
) -> dict[str, Any]:
    """Write `folds.json` and `prepare.json` to `output_dir`, print a summary, and return the content of the latter.

    Where `dataset.heldout_path` or `heldout_split` is given there are no folds, and the given parts are compared.
    Raises ValueError or FileNotFoundError as `read_labelled` does, and, with `strict`, for text or groups that leak;
    both files are then there and say what.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    record = record_head("prepare", resolved, overrides) | {"classes": None, "folds": None, "leakage": None}
    record |= {"files": {"folds": FOLDS}, "error": None}
    try:
        pool = read_pool(config.dataset)
        leakage = _given(config.dataset, pool, output_dir, record)
        if leakage is None:
            leakage = _folded(config.dataset, pool, output_dir, record)
        record["leakage"] = leakage.as_dict()
        if config.strict and not leakage.clean:
            leak = next(leak for leak in leakage.leaks if leak.rows["group"] or leak.rows["text"])
            raise ValueError(
                f"dataset.fold_by={config.dataset.fold_by}: {leak}; write dataset.fold_by=stratified_group, or "
                "strict=false to count it only"
            )
    except (ValueError, FileNotFoundError) as error:
        write_json(output_dir / RECORD, record | {"status": "failed", "finished": now(), "error": str(error)})
        raise
    record |= {"status": "finished", "finished": now()}
    write_json(output_dir / RECORD, record)
    return record


def _given(dataset: DatasetConfig, pool: Pool, folder: Path, record: dict[str, Any]) -> Leakage | None:
    """The parts that the dataset comes in; None where what is held out is drawn."""
    if pool.heldout is None:
        return None
    labelled: Labelled = part_rows(dataset, pool)
    print(labelled)
    write_split(labelled, folder)
    record |= labelled.as_dict()
    return labelled.leakage


def _folded(dataset: DatasetConfig, pool: Pool, folder: Path, record: dict[str, Any]) -> Leakage:
    """All folds: every class is in the training rows of each."""
    folds = make_folds(pool.rows, dataset, classes=pool.classes, group=pool.group)
    totals = np.array(folds.counts, np.int64).reshape(folds.folds, -1).sum(0)
    for k, counts in enumerate(folds.counts):
        refuse_empty(
            dict(zip(pool.classes, (totals - np.array(counts)).tolist(), strict=True)), f"fold {k}", pool.target
        )
    forbidden = ("group", "text") if dataset.fold_by in GROUPED else ()
    leakage = find_fold_leaks(pool.rows, folds, pool.test, forbidden=forbidden)
    parts = {"train": pool.rows} | ({} if pool.test is None else {"test": pool.test})
    counted = {name: _counts(pool, rows) for name, rows in parts.items()}
    recorded = {name: part_record(rows, counted[name]) for name, rows in parts.items()}
    names = list(pool.target.names)
    write_folds(
        folder,
        head={
            "column": pool.target.column,
            "classes": names,
            "group": pool.group,
            "seed": dataset.split_seed,
            "heldout": f"each of {folds.folds} folds in turn",
        },
        folds=folds,
        pool=pool.rows,
        parts=recorded,
        leakage=leakage,
    )
    majority = _majority(folds, counted)
    record["classes"] = {
        "kind": pool.target.kind,
        "column": pool.target.column,
        "names": names,
        "bins": None if pool.target.bins is None else list(pool.target.bins),
        "template": pool.template.template,
        "counts": counted,
        "majority": majority,
        "spread": spreads(parts),
    }
    record["folds"] = {
        "fold": dataset.fold,
        "folds": folds.folds,
        "by": folds.by,
        "group": pool.group,
        "seed": folds.seed,
        "rows": np.bincount(folds.fold_N, minlength=folds.folds).tolist(),
        "counts": folds.counts,
        "spread": fold_spreads(folds, pool.rows),
        "skipped": {name: dict(rows.skipped) for name, rows in parts.items()},
        "notes": list(folds.notes),
    }
    print("\n".join(_lines(pool, folds, parts, counted, majority, leakage)))
    return leakage


def _counts(pool: Pool, rows: LabelledRows) -> dict[str, int]:
    """The rows of each class; none of a regression."""
    found = np.bincount(rows.labels, minlength=len(pool.classes)).tolist() if pool.classes else []
    return dict(zip(pool.classes, found, strict=True))


def _majority(folds: FoldSplit, counted: dict[str, dict[str, int]]) -> dict[str, Any] | None:
    """The commonest class, and its share of each fold and of the test; None of a regression."""
    train = counted["train"]
    if not train:
        return None
    commonest = max(train, key=lambda name: train[name])
    place = list(train).index(commonest)
    test = counted.get("test")
    return {
        "class": commonest,
        "folds": [counts[place] / sum(counts) for counts in folds.counts],
        "test": None if test is None else test[commonest] / sum(test.values()),
    }


def _lines(
    pool: Pool,
    folds: FoldSplit,
    parts: dict[str, LabelledRows],
    counted: dict[str, dict[str, int]],
    majority: dict[str, Any] | None,
    leakage: Leakage,
) -> list[str]:
    """The summary."""
    kind = f"{len(pool.classes)} classes" if pool.classes else "a number"
    lines = [f"{pool.rows.source}: {pool.target.kind} by {pool.target.column}, {kind}"]
    for name, rows in parts.items():
        lines.append(f"  {name}: {said_rows(rows, counted[name], pool.target.column)}")
    if majority is not None:
        low, high = min(majority["folds"]), max(majority["folds"])
        said = f"  always {majority['class']}: right on {low:.1%} to {high:.1%} of a fold"
        lines.append(said + ("" if majority["test"] is None else f" and {majority['test']:.1%} of test"))
    together = f", no {pool.group} in two" if folds.by in GROUPED else ""
    lines.append(f"{folds.folds} folds, {folds.by}, dataset.split_seed={folds.seed}{together}")
    lines += fold_lines(folds, pool.target.names, fold_spreads(folds, pool.rows))
    lines += [f"  note: {note}" for note in folds.notes]
    leaking = [leak for leak in leakage.leaks if any(leak.rows.values())]
    near = f"nearly repeat: {NEAR}"
    return [*lines, f"leakage ({near}):", *(f"  {leak}" for leak in leaking)] if leaking else [*lines, "leakage: none"]
