"""What a pair of classifiers decides, and how each of them reads the texts.

Shape letters: N rows, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kdlab.data.dataset import Side
from kdlab.data.labelled.seen import said_seen, seen_by
from kdlab.data.labelled.store import LabelledStore
from kdlab.models.pair import reads_alike

if TYPE_CHECKING:
    from torch import Tensor

    from kdlab.data.dataset import Data
    from kdlab.data.labelled.rows import Labelled
    from kdlab.models.student import Student
    from kdlab.rows import Rows
    from kdlab.teachers.base import Teacher
    from kdlab.text.task import Task
    from kdlab.training.recipe import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Deciding:
    """What a pair of classifiers decides. `usual` is the id of the training data's commonest class, or the mean of its
    numbers; `weights_C` weigh the labels' term (None: all alike)."""

    task: Task
    usual: float
    weights_C: Tensor | None = None

    def weigh(self, rows: Rows) -> Rows:
        """The rows with the weights of their classes."""
        if self.weights_C is None:
            return rows
        return replace(rows, weight_N=self.weights_C.to(rows.labels_N.device)[rows.labels_N])


def deciding(data: Data) -> Deciding:
    """What is decided, and what the rows to train on say of it."""
    labelled, train = data.labelled, data.train
    assert labelled is not None
    assert isinstance(train, LabelledStore)
    labels_N = np.asarray(train.labels)
    usual = labels_N.mean() if labelled.task.is_regression else np.bincount(labels_N.astype(np.int64)).argmax()
    weights = labelled.class_weights
    weights_C = None if weights is None else torch.tensor(weights, dtype=torch.float32)
    return Deciding(task=labelled.task, usual=float(usual), weights_C=weights_C)


def seen_lines(config: TrainConfig, labelled: Labelled) -> list[str]:
    """What the models that a run begins with have learnt from the rows that it is judged by, a line each."""
    theirs = config.teacher.path if config.teacher.source == "live" else None
    lines = []
    for option, path in (("teacher.path", theirs), ("student.path", config.student.path)):
        if path is not None and (folder := Path(path).expanduser()).is_dir():
            lines += said_seen(seen_by(folder, labelled.parts), labelled.parts, f"{option}={path}")
    return lines


def described(config: TrainConfig, labelled: Labelled) -> dict[str, Any]:
    """The rows for run.json, with what the models have seen of them."""
    found = labelled.as_dict()
    found["folds"]["notes"] += seen_lines(config, labelled)
    return found


def reading_sides(teacher: Teacher | None, student: Student) -> tuple[Side, Side | None]:
    """How the student reads texts, and how a teacher does that reads them otherwise (None: as the student): by other
    tokens, other special tokens around them, or another padding token, which a decoder looks for."""
    mine = Side(tokenizer=student.tokenizer, entries=_entries(student.model))
    if teacher is None:
        return mine, None
    if reads_alike(student.tokenizer, teacher.tokenizer):
        return mine, None
    return mine, Side(tokenizer=teacher.tokenizer, entries=_entries(teacher.model))


def _entries(model: Any) -> int | None:
    return None if model is None else int(model.get_input_embeddings().weight.shape[0])
