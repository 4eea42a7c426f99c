"""The fold of a run: its rows go to the data module, `folds.json` says which they are, and leaks end the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch import Callback

from kdlab.data.labelled.leakage import refuse_leaks
from kdlab.data.labelled.record import write_split

if TYPE_CHECKING:
    from kdlab.data.dataset import Data
    from kdlab.training.data import DistillData


class FoldCallback(Callback):  # type: ignore[misc]
    """Gives the data module the training, held-out and test rows of `data.labelled`.

    Raises ValueError where a part has a text or a group that it must not share with another, or examples of rows that
    are another part's. `folder` gets `folds.json` (None: on ranks that write nothing).
    """

    def __init__(self, data: Data, folder: Path | None) -> None:
        assert data.labelled is not None
        self.data, self.folder = data, folder

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.apply(trainer.datamodule)

    def apply(self, module: DistillData) -> None:
        """Check the parts, write `folds.json`, and let the module read them."""
        labelled = self.data.labelled
        assert labelled is not None
        refuse_leaks(labelled.parts, labelled.leakage)
        stores = {"train": self.data.train, "heldout": self.data.heldout, "test": self.data.test}
        for name, rows in labelled.parts.items():
            read: Any = stores[name]
            if not np.array_equal(read.rows, rows.numbers):
                raise ValueError(f"dataset.fold: the {name} examples are not of the {len(rows):,} rows of that part")
        if self.folder is not None:
            write_split(labelled, self.folder)
        module.data = self.data
