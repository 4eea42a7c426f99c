"""Examples with one label each, as the models' tokenizers read them; loaders use them as they use a `TokenStore`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdlab.data.store import Example, Layout

Ids = NDArray[np.int32]
Ints = NDArray[np.int64]


class LabelledStore:
    """Token ids of each text and its label: `labels` `[N]`, classes (int64) or numbers (float32).

    `rows` are the rows of the source. `teacher` is the same rows as a teacher with another tokenizer reads them; such a
    store has `pad_id`, what pads its batches.
    """

    seq2seq = False

    def __init__(
        self,
        ids: Sequence[Sequence[int] | Ids],
        *,
        labels: NDArray[Any],
        rows: Ints,
        max_length: int,
        pad_id: int | None = None,
        teacher: LabelledStore | None = None,
    ) -> None:
        assert len(ids) == len(labels) == len(rows)
        assert teacher is None or (len(teacher) == len(ids) and teacher.pad_id is not None)
        self.lengths: Ints = np.array([len(row) for row in ids], np.int64)
        self.ids_T: Ids = np.concatenate([np.zeros(0, np.int32), *(np.asarray(row, np.int32) for row in ids)])
        self.offsets = np.cumsum([0, *self.lengths.tolist()])
        self.regression = bool(np.issubdtype(labels.dtype, np.floating))
        self.labels = labels.astype(np.float32 if self.regression else np.int64)
        self.rows, self.max_length, self.teacher = rows, max_length, teacher
        self.pad_id: int | None = pad_id

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> Example:
        ids = self.ids_T[self.offsets[i] : self.offsets[i + 1]]
        return Example(
            input_ids=ids,
            supervised=np.zeros(len(ids), np.bool_),
            row=int(self.rows[i]),
            label=self.labels[i].item(),
            teacher=None if self.teacher is None else self.teacher[i],
        )

    def layout(self, *, pad_id: int) -> Layout:
        """How batches of these examples are laid out."""
        own = Layout(pad_id=pad_id, longest=self.max_length, decides="number" if self.regression else "class")
        if self.teacher is None:
            return own
        assert self.teacher.pad_id is not None
        return replace(own, teacher=self.teacher.layout(pad_id=self.teacher.pad_id))

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())

    @property
    def supervised_tokens(self) -> int:
        """The decisions all examples together ask for: one each."""
        return len(self)

    @cached_property
    def content_hash(self) -> str:
        """Changes when any token, boundary or label of any example does, on either side."""
        digest = hashlib.sha256(f"labelled {self.labels.dtype}".encode())
        for part in (self.ids_T, self.offsets, self.labels, self.rows):
            digest.update(part.tobytes())
        if self.teacher is not None:
            digest.update(self.teacher.content_hash.encode())
        return digest.hexdigest()
