"""Folds: which rows are held out together. Chosen by scikit-learn, of whole groups and by class, from a seed.

Rows belong together that have one group value, and rows that have one text: a text in two folds would be learnt by
heart in one and asked for in the other.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from kdlab.data.dataset import DatasetConfig
    from kdlab.data.labelled.reading import LabelledRows

Ints = NDArray[np.int64]
GROUPED = ("stratified_group", "group")
"""Ways to choose folds that keep groups whole."""
STRATA = 10
"""Numbers are put into as many equal parts by rank, for folds of like numbers."""
FINEST = 20
"""A share to hold out is met to the nearest fraction with at most this denominator; a smaller one is one in so many."""


@dataclass(frozen=True, kw_only=True)
class FoldSplit:
    """`fold_N` is the fold of each row. `fold` is the one that is held out (None: none is chosen yet). `counts[fold]`
    are its rows by class, none of a regression; `notes` what is worth knowing about it."""

    by: str
    folds: int
    seed: int
    group: str
    fold_N: Ints
    counts: list[list[int]]
    fold: int | None = None
    notes: list[str] = field(default_factory=list)

    def held(self) -> NDArray[np.bool_]:
        """Which rows are held out."""
        assert self.fold is not None
        return np.asarray(self.fold_N == self.fold, np.bool_)


def together(groups: Sequence[str], texts: Sequence[str]) -> Ints:
    """A number for each row, the same for rows that share a group or a text, and for rows that share it with those."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    group_N, text_N = _numbered(groups), _numbered(texts)
    first_text = int(group_N.max(initial=-1)) + 1
    size = first_text + int(text_N.max(initial=-1)) + 1
    graph = coo_array((np.ones(len(group_N), np.int8), (group_N, first_text + text_N)), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    return np.asarray(component[group_N], np.int64)


def _numbered(values: Sequence[str]) -> Ints:
    """The same number for the same value, in the order in which they come up."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(value, len(seen)) for value in values], np.int64)


def make_folds(rows: LabelledRows, config: DatasetConfig, *, classes: Sequence[str], group: str) -> FoldSplit:
    """All `dataset.folds` folds of the rows; `classes` are empty for numbers.

    Raises ValueError where there are fewer groups (or rows) than folds, or a fold is left without a row.
    """
    by, folds = config.fold_by, config.folds
    unit_N = together(rows.groups, rows.texts) if by in GROUPED else np.arange(len(rows))
    units = len(np.unique(unit_N))
    what = f"different values of {group}" if by in GROUPED else "rows"
    if units < folds:
        raise ValueError(
            f"dataset.folds={folds}: there are {units:,} {what} only; write dataset.folds={max(units, 2)} or fewer"
            + (", or another dataset.group" if by in GROUPED else "")
        )
    stratum_N = _strata(rows.labels, regression=not classes)
    fold_N = _chosen(by, folds, config.split_seed, unit_N, stratum_N)
    sizes = np.bincount(fold_N, minlength=folds)
    if (sizes == 0).any():
        raise ValueError(
            f"dataset.folds={folds}: fold {int(np.argmin(sizes))} is left without a row, as the largest group by "
            f"{group} has {int(np.bincount(unit_N).max()):,} of {len(rows):,} rows; write fewer, or another "
            "dataset.group"
        )
    notes = []
    for c, name in enumerate(classes):
        having = len(np.unique(unit_N[rows.labels == c]))
        if having < folds:
            notes.append(f"class {name} has {having:,} {what}, so not every one of {folds} folds has it")
    counts = [_counts(rows.labels[fold_N == k], len(classes)) for k in range(folds)]
    return FoldSplit(
        by=by,
        folds=folds,
        seed=config.split_seed,
        group=group,
        fold_N=fold_N,
        counts=counts,
        fold=config.fold,
        notes=notes,
    )


def draw_heldout(rows: LabelledRows, config: DatasetConfig, *, classes: Sequence[str], group: str) -> NDArray[np.bool_]:
    """Which rows are held out where no fold is asked for: `dataset.heldout` of them, by class and of whole groups as
    folds are, so the share is met as nearly as whole groups allow."""
    asked = config.heldout if config.heldout < 1 else config.heldout / len(rows)
    if asked >= 1:
        raise ValueError(f"dataset.heldout={config.heldout}: leaves none of the {len(rows):,} rows to train on")
    unit_N = together(rows.groups, rows.texts) if config.fold_by in GROUPED else np.arange(len(rows))
    units = len(np.unique(unit_N))
    if units < 2:
        raise ValueError(
            f"dataset.heldout={config.heldout}: all rows have one value of {group}, and groups are not parted; name "
            "another dataset.group, give dataset.heldout_path, or write dataset.fold_by=stratified"
        )
    near = Fraction(asked).limit_denominator(FINEST)
    parts, taken = (round(1 / asked), 1) if asked < 1 / FINEST else (near.denominator, near.numerator)
    if parts == taken:
        parts, taken = FINEST, FINEST - 1
    if parts > units:
        parts, taken = units, min(max(1, round(asked * units)), units - 1)
    drawn = make_folds(rows, replace(config, folds=parts, fold=None), classes=classes, group=group)
    return np.asarray(drawn.fold_N < taken, np.bool_)


def _chosen(by: str, folds: int, seed: int, unit_N: Ints, stratum_N: Ints) -> Ints:
    from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

    fold_N = np.full(len(unit_N), -1, np.int64)
    blank = np.zeros(len(unit_N))
    options: dict[str, Any] = {"n_splits": folds, "shuffle": True, "random_state": seed}
    if by in ("stratified_group", "stratified") and np.bincount(stratum_N).max() < folds:
        stratum_N = np.zeros_like(stratum_N)  # no class has a row for every fold, so there is nothing to share out
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with few rows: `make_folds` says which
        if by == "stratified_group":
            found = list(StratifiedGroupKFold(**options).split(blank, stratum_N, unit_N))
        elif by == "stratified":
            found = list(StratifiedKFold(**options).split(blank, stratum_N))
        elif by == "plain":
            found = list(KFold(**options).split(blank))
        else:
            different = np.unique(unit_N)
            parts = [different[held] for _, held in KFold(**options).split(different)]
            found = [(None, np.flatnonzero(np.isin(unit_N, part))) for part in parts]
    for k, (_, held) in enumerate(found):
        fold_N[held] = k
    assert (fold_N >= 0).all()
    return fold_N


def _strata(labels: NDArray[Any], *, regression: bool) -> Ints:
    """The classes; of numbers, tenths by rank, equal numbers in one."""
    if not regression:
        return np.asarray(labels, np.int64)
    _, value_N, count = np.unique(labels, return_inverse=True, return_counts=True)
    first = np.cumsum(count) - count
    return np.asarray(np.unique(first[value_N] * STRATA // len(labels), return_inverse=True)[1], np.int64)


def _counts(labels: NDArray[Any], classes: int) -> list[int]:
    return [int(n) for n in np.bincount(labels, minlength=classes)] if classes else []
