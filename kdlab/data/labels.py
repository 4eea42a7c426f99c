"""Which column of a dataset is decided about, and how its values become classes: the options `dataset.labels`.

Importable without torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

UNSET = "???"
FOLDS = "folds.json"
"""The file that says which rows are in which part and fold."""
FOLD_KINDS = ("stratified_group", "group", "stratified", "plain")
WEIGHTS = ("none", "balanced")


@dataclass(kw_only=True)
class LabelsConfig:
    """`column` holds the label of a row. Its values are the classes, or, where they are numbers, `bins` cuts them:
    rising edges, a value from an edge on is in the class above it ([2, 4]: below 2, from 2 to below 4, from 4 on).
    `regression` predicts the number itself. `names` names the classes in their order (None: the values, or the ranges).

    `template` puts the columns of a row together, each by its name in braces (None: the text-like columns that are
    there, a blank line between them). It has no <s> or other token of a tokenizer: those are added once.

    `weights` "balanced" weighs the labels' term by the class, with N / (C N_c) over the training rows: rare classes
    count as much as common ones.
    """

    column: str = UNSET
    bins: list[float] | None = None
    names: list[str] | None = None
    regression: bool = False
    template: str | None = None
    weights: str = "none"

    def __post_init__(self) -> None:
        bins, names = self.bins, self.names
        if bins is not None and not (
            bins and all(map(math.isfinite, bins)) and all(low < high for low, high in pairwise(bins))
        ):
            raise ValueError(f"dataset.labels.bins={bins}: must be rising edges between classes, such as [2, 4]")
        if self.regression and (bins is not None or names is not None):
            raise ValueError("dataset.labels.regression=true: predicts a number; drop dataset.labels.bins and names")
        if names is not None and (len(names) < 2 or len(set(names)) < len(names)):
            raise ValueError(f"dataset.labels.names={names}: must be two or more different names")
        if bins is not None and names is not None and len(names) != len(bins) + 1:
            raise ValueError(
                f"dataset.labels.names: {len(names)} names, but the {len(bins)} edges of dataset.labels.bins make "
                f"{len(bins) + 1} classes"
            )
        if self.weights not in WEIGHTS:
            raise ValueError(f"dataset.labels.weights={self.weights}: must be one of {', '.join(WEIGHTS)}")
        if self.regression and self.weights != "none":
            raise ValueError("dataset.labels.weights: weighs classes, and dataset.labels.regression=true has none")
