"""A dataset with labels, from its options to what is learnt from and what is judged by. Needs no tokenizer.

labelled = read_labelled(config.dataset)
print(labelled)
labelled.train.labels, labelled.task.names
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdlab.data.labelled.columns import default_group, default_template
from kdlab.data.labelled.folds import GROUPED, FoldSplit, draw_heldout, make_folds
from kdlab.data.labelled.leakage import Leakage, find_leaks, refuse_leaks
from kdlab.data.labelled.reading import LabelledRows, label_rows, read_raw
from kdlab.data.labelled.values import Target, find_target
from kdlab.data.sources import open_source
from kdlab.models.places import cache_folder
from kdlab.text.fields import FieldTemplate
from kdlab.text.task import Task

if TYPE_CHECKING:
    from kdlab.data.dataset import DatasetConfig
    from kdlab.data.sources import Source

ELSEWHERE = "that are also in the rows to judge by"
"""Why rows of training are left out whose text or group is held out, or in the test."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """`train`, `heldout` and `test` (None: there is none) rows, what is decided about them (`task`), and how they were
    parted. `template` reads the columns `fields`; `group` names what may not be parted. `pool` are the rows that folds
    are made of, and `folds` which are in which (None: no fold was asked for); `how` says what is held out, in words,
    `seed` what it was drawn by. `balanced`: labels are weighed by their class. `cache` is where tokens are kept."""

    task: Task
    target: Target
    template: FieldTemplate
    group: str
    train: LabelledRows
    heldout: LabelledRows
    test: LabelledRows | None
    pool: LabelledRows
    folds: FoldSplit | None
    how: str
    seed: int
    balanced: bool
    cache: Path
    leakage: Leakage

    @property
    def fields(self) -> list[str]:
        return self.template.fields

    @property
    def parts(self) -> dict[str, LabelledRows]:
        """The parts that there are, by name."""
        every = {"train": self.train, "heldout": self.heldout, "test": self.test}
        return {name: rows for name, rows in every.items() if rows is not None}

    @cached_property
    def counts(self) -> dict[str, dict[str, int]]:
        """The rows of each class in each part; none of a regression."""
        return {name: self._counted(rows) for name, rows in self.parts.items()}

    def _counted(self, rows: LabelledRows) -> dict[str, int]:
        if self.task.is_regression:
            return {}
        found = np.bincount(rows.labels, minlength=len(self.task.names)).tolist()
        return dict(zip(self.task.names, found, strict=True))

    @property
    def class_weights(self) -> list[float] | None:
        """N / (C N_c) of each class over the training rows (`dataset.labels.weights=balanced`), else None."""
        if not self.balanced or self.task.is_regression:
            return None
        counts = list(self.counts["train"].values())
        return [len(self.train) / (len(counts) * count) for count in counts]

    @property
    def majority(self) -> dict[str, Any] | None:
        """The commonest class of the training rows, and its share of the other parts: what a model gets right that
        always says so. None of a regression."""
        if self.task.is_regression:
            return None
        commonest = max(self.counts["train"], key=lambda name: self.counts["train"][name])
        shares = {
            part: self.counts[part][commonest] / len(rows) for part, rows in self.parts.items() if part != "train"
        }
        return {"class": commonest, "heldout": shares["heldout"], "test": shares.get("test")}

    def as_dict(self) -> dict[str, Any]:
        """For `run.json`: plain values."""
        from kdlab.data.labelled.telling import as_dict

        return as_dict(self)

    def __str__(self) -> str:
        from kdlab.data.labelled.telling import told

        return told(self)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """All rows that may be learnt from, before any is held out, and the rows given to judge by."""

    target: Target
    template: FieldTemplate
    group: str
    rows: LabelledRows
    heldout: LabelledRows | None
    test: LabelledRows | None

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, none of a regression."""
        return self.target.names if self.target.kind == "classification" else ()


def read_labelled(config: DatasetConfig) -> Labelled:
    """Read, decide what the classes are, and part the rows.

    Rows to learn from whose text (or group, where folds are of groups) is in the given held-out or test rows are left
    out and counted. Raises FileNotFoundError for a path that is not there, ValueError for a column that is not there,
    a target of one class, a class without a training row, too few rows for the folds, and parts that share what they
    must not, each naming the option.
    """
    labelled = part_rows(config, read_pool(config))
    refuse_leaks(labelled.parts, labelled.leakage)
    return labelled


def read_pool(config: DatasetConfig) -> Pool:
    """The rows, before any is held out."""
    labels = config.labels
    assert labels is not None
    raw = read_raw(_source(config, "dataset.path"), num_samples=config.num_samples, seed=config.split_seed)
    template = FieldTemplate(labels.template or default_template(raw.columns, labels.column))
    _refuse_label(labels.column, template)
    group = config.group if config.group is not None else default_group(raw.columns, labels.column)
    if labels.column not in raw.columns:
        raise ValueError(
            f"dataset.labels.column={labels.column}: {raw.source.typed} has no such column; it has "
            f"{', '.join(raw.columns)}"
        )
    values = [row.get(labels.column) for row in raw.rows]
    target = find_target(labels, values, known=raw.source.class_names(labels.column), typed=raw.source.typed)
    rows = label_rows(raw, target, template, group)
    given: dict[str, LabelledRows | None] = {"heldout": None, "test": None}
    for name in given:
        option = f"dataset.{name}_path" if getattr(config, f"{name}_path") is not None else f"dataset.{name}_split"
        if getattr(config, option.removeprefix("dataset.")) is not None:
            given[name] = label_rows(read_raw(_source(config, option)), target, template, group)
    heldout, test = given["heldout"], given["test"]
    by_group = config.fold_by in GROUPED
    if heldout is not None and test is not None:
        heldout = _apart(heldout, [test], by_group=by_group)
    rows = _apart(rows, [part for part in (heldout, test) if part is not None], by_group=by_group)
    for name, left, option in (("learn from", rows, "dataset.path"), ("hold out", heldout, "dataset.heldout_path")):
        if left is not None and not len(left):
            raise ValueError(f"{option}: no row is left to {name}: all of them are also in the rows to judge by")
    return Pool(target=target, template=template, group=group or "the text", rows=rows, heldout=heldout, test=test)


def part_rows(config: DatasetConfig, pool: Pool) -> Labelled:
    """Hold out a fold, a share, or the rows that were given for it."""
    assert config.labels is not None
    folds = None
    if pool.heldout is not None:
        train, heldout, how = pool.rows, pool.heldout, config.heldout_path or f"split {config.heldout_split}"
    else:
        if config.fold is not None:
            folds = make_folds(pool.rows, config, classes=pool.classes, group=pool.group)
            held_N, how = folds.held(), f"fold {config.fold} of {config.folds}, {config.fold_by}"
        else:
            held_N = draw_heldout(pool.rows, config, classes=pool.classes, group=pool.group)
            how = f"{held_N.mean():.1%} drawn by dataset.split_seed={config.split_seed}, {config.fold_by}"
        train, heldout = pool.rows.only(~held_N), replace(pool.rows.only(held_N), read=0, skipped={})
    parts = {"train": train, "heldout": heldout} | ({"test": pool.test} if pool.test is not None else {})
    task = Task(
        kind=pool.target.kind,
        names=pool.target.names,
        column=pool.target.column,
        template=pool.template.template,
        max_length=config.max_length,
    )
    labelled = Labelled(
        task=task,
        target=pool.target,
        template=pool.template,
        group=pool.group,
        train=train,
        heldout=heldout,
        test=pool.test,
        pool=pool.rows,
        folds=folds,
        how=how,
        seed=config.split_seed,
        balanced=config.labels.weights == "balanced",
        cache=cache_folder(config.cache_dir),
        leakage=find_leaks(parts, forbidden=_forbidden(config, drawn=pool.heldout is None)),
    )
    refuse_empty(labelled.counts["train"], how, pool.target)
    return labelled


def refuse_empty(counts: dict[str, int], how: str, target: Target) -> None:
    """Raise ValueError where a class has no row to learn from."""
    empty = [name for name, count in counts.items() if not count]
    if empty:
        said = ", ".join(f"{name}: {count:,}" for name, count in counts.items() if count)
        remedy = "put classes together by dataset.labels.bins" if target.reads == "number" else "take that class out"
        raise ValueError(
            f"dataset.labels: no training row is of class {' or '.join(empty)} (held out: {how}; the others have "
            f"{said}); {remedy}, or give more rows"
        )


def _forbidden(config: DatasetConfig, *, drawn: bool) -> dict[tuple[str, str], tuple[str, ...]]:
    """What parts must not share: rows drawn with no regard to groups may, rows that were given may not."""
    grouped = config.fold_by in GROUPED
    given = ("group", "text") if grouped else ("text",)
    inner = given if grouped or not drawn else ()
    return {("train", "heldout"): inner, ("train", "test"): given, ("heldout", "test"): given}


def _apart(rows: LabelledRows, others: Sequence[LabelledRows], *, by_group: bool) -> LabelledRows:
    """The rows whose text, and group where it counts, is in none of the others."""
    texts = {text for other in others for text in other.texts}
    groups = {group for other in others for group in other.groups} if by_group else set()
    free = [t not in texts and g not in groups for t, g in zip(rows.texts, rows.groups, strict=True)]
    return rows.only(np.array(free, np.bool_), reason=ELSEWHERE)


def _refuse_label(column: str, template: FieldTemplate) -> None:
    if column in template.fields:
        raise ValueError(f"dataset.labels.template: reads {column}, which is what is to be decided; take it out")


def _source(config: DatasetConfig, option: str) -> Source:
    """What an option names: the rows to learn from, or a split or file to judge by."""
    if option == "dataset.path":
        return open_source(config.path, subset=config.subset, split=config.split, revision=config.revision)
    asked: str = getattr(config, option.removeprefix("dataset."))
    if option.endswith("_path"):
        return open_source(asked, split="train", option=option)
    return open_source(config.path, subset=config.subset, split=asked, revision=config.revision, split_option=option)
