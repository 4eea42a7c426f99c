"""What a variant is verified on: rows that the model was not trained on, as its tokenizer reads them.

Shape letters: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kdlab.models.label_names import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kdlab.data.dataset import DatasetConfig
    from kdlab.data.labelled.rows import Labelled
    from kdlab.data.store import TokenStore
    from kdlab.exporting.recipe import ExportConfig
    from kdlab.exporting.variants import Variant
    from kdlab.text.task import Task

CALIBRATION_TOKENS = 4096
"""Tokens of text that the ranges of activations are taken from, at most."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Token `ids` of each row, and the `labels` `[N]` of a classifier's; `calibration`: other rows, from the training
    part. `what` says in words which rows these are, `notes` where the model has learnt from them."""

    ids: list[list[int]]
    labels: NDArray[Any] | None
    calibration: list[list[int]]
    what: str
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)


def read_examples(config: ExportConfig, model: Variant) -> Examples:
    """Rows of `config.dataset`, drawn by `config.seed`: for a classifier the test rows where there are some, else the
    held-out ones; for a model that writes, held-out text.

    Raises ValueError where dataset and model do not fit.
    """
    if model.task is not None:
        return _decided(config, model, model.task)
    if config.dataset.labels is not None:
        raise ValueError(
            f"model.path={config.model.path}: writes text, and dataset.labels are for a classifier; give a dataset of "
            "text, such as dataset=python_docs"
        )
    return _written(config, model.tokenizer)


def read_as(config: DatasetConfig, task: Task) -> Labelled:
    """The rows of a dataset as a task reads them: by the template and to the length that the model was trained with.
    Raises ValueError for a dataset without labels, or with other classes."""
    from kdlab.data.labelled.rows import read_labelled

    if config.labels is None:
        raise ValueError(
            "dataset.labels.column is not set: the model is a classifier; choose the dataset that it was trained on, "
            "such as dataset=helpsteer2"
        )
    labels = replace(config.labels, template=task.template)
    labelled = read_labelled(replace(config, labels=labels, max_length=task.max_length))
    if (labelled.task.kind, labelled.task.names) != (task.kind, task.names):
        raise ValueError(
            f"dataset.path={config.path}: its {labelled.task.kind} is of {shown(labelled.task.names)}, the model's of "
            f"{shown(task.names)}; give the dataset options that the model was trained with"
        )
    return labelled


def _decided(config: ExportConfig, model: Variant, task: Task) -> Examples:
    from kdlab.data.labelled.seen import said_seen, seen_by
    from kdlab.text.fields import FieldTemplate

    labelled, template = read_as(config.dataset, task), FieldTemplate(task.template)
    name, what = ("heldout", "held-out") if labelled.test is None else ("test", "test")
    part = labelled.parts[name]
    chosen = _drawn(len(part), config.examples, config.seed)
    calibration = _drawn(len(labelled.train), config.calibration, config.seed)

    def encoded(rows: Sequence[dict[str, str]], which: Sequence[int]) -> list[list[int]]:
        return template.encode(model.tokenizer, [rows[i] for i in which], task.max_length)[0]

    seen = {key: count for key, count in seen_by(model.folder, labelled.parts).items() if key == name}
    return Examples(
        ids=encoded(part.fields, chosen),
        labels=np.asarray(part.labels)[chosen],
        calibration=encoded(labelled.train.fields, calibration),
        what=f"{len(chosen):,} of {len(part):,} {what} rows",
        notes=said_seen(seen, labelled.parts, f"model.path={config.model.path}"),
    )


def _written(config: ExportConfig, tokenizer: Any) -> Examples:
    from kdlab.data.dataset import Side, build
    from kdlab.data.store import TokenStore

    data = build(replace(config.dataset, pack=False, streaming=False), Side(tokenizer=tokenizer))
    assert isinstance(data.heldout, TokenStore)
    assert isinstance(data.train, TokenStore)
    ids = _taken(data.heldout, config.examples, config.tokens, config.seed)
    return Examples(
        ids=ids,
        labels=None,
        calibration=_taken(data.train, config.calibration, CALIBRATION_TOKENS, config.seed),
        what=f"{sum(map(len, ids)):,} tokens in {len(ids):,} of {len(data.heldout):,} held-out examples",
    )


def _taken(store: TokenStore, count: int | None, tokens: int, seed: int) -> list[list[int]]:
    """Examples drawn by the seed, until there are so many, or they have so many tokens together."""
    ids: list[list[int]] = []
    left = tokens
    for i in _shuffled(len(store), seed)[:count]:
        if left <= 0:
            break
        ids.append([int(token) for token in store[i].input_ids])
        left -= len(ids[-1])
    return ids


def _shuffled(count: int, seed: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(seed).permutation(count)]


def _drawn(count: int, wanted: int | None, seed: int) -> list[int]:
    """`wanted` of `count` rows, in their order: files are often sorted by class, so that the first are of one."""
    return sorted(_shuffled(count, seed)[:wanted])
