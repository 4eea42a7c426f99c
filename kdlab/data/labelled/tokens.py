"""The tokens of rows with labels: every different row read once, and kept by the hash of all that went in.

kept, cached = tokenised_rows(template, tokenizer, rows, max_length=512, cache=Path("~/.cache/kdlab").expanduser())
ids, cut = kept.of(rows[:10])

What is kept is of all rows of a dataset, in whatever order and parts they come: the folds of a sweep share it.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from kdlab.data.tokens import keeping_in
from kdlab.durable import write_atomically
from kdlab.text.encoding import Encoder
from kdlab.text.fields import FieldTemplate

VERSION = 1
"""Raised when the same rows give other tokens or another layout than before: older cache entries are then unread."""
DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, struct.error, zipfile.BadZipFile)
"""What reading an archive raises that is not as it was written."""

Fields = Mapping[str, str]
Ids = NDArray[np.int32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class RowTokens:
    """Token ids of R different rows one after another, in the order of their `keys`. `offsets` `[R + 1]` say where each
    begins, `cut_R` how many tokens it lost to `dataset.max_length`."""

    keys: list[str]
    ids_T: NDArray[Any]
    offsets: Ints
    cut_R: Ints

    @cached_property
    def _places(self) -> dict[str, int]:
        return {key: r for r, key in enumerate(self.keys)}

    def of(self, rows: Sequence[Fields]) -> tuple[list[Ids], list[int]]:
        """The ids of each of these rows, and how many tokens it lost, as `FieldTemplate.encode` gives them."""
        places = [self._places[_key(row)] for row in rows]
        ids = [self.ids_T[self.offsets[r] : self.offsets[r + 1]].astype(np.int32) for r in places]
        return ids, [int(self.cut_R[r]) for r in places]


def tokenised_rows(
    template: FieldTemplate, tokenizer: Any, rows: Sequence[Fields], *, max_length: int, cache: Path
) -> tuple[RowTokens, bool]:
    """The tokens of all different rows, from the cache where they are there, and whether they were.

    Raises ValueError as `FieldTemplate.encode` does, and where the cache cannot be written to.
    """
    different = {_key(row): row for row in rows}
    keys = sorted(different)
    parts = [VERSION, Encoder(tokenizer).fingerprint(), template.template, max_length, keys]
    file = cache / "tokens" / hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32] / "rows.npz"
    found = _open(file, keys)
    if found is not None:
        return found, True
    ids, cut = template.encode(tokenizer, [different[key] for key in keys], max_length)
    ids_T = np.fromiter((i for row in ids for i in row), np.int32)
    made = RowTokens(
        keys=keys,
        ids_T=ids_T.astype(np.uint16) if ids_T.max(initial=0) < 1 << 16 else ids_T,
        offsets=np.cumsum([0, *map(len, ids)], dtype=np.int64),
        cut_R=np.array(cut, np.int64),
    )

    def write(opened: BinaryIO) -> None:
        np.savez(opened, ids=made.ids_T, offsets=made.offsets, cut=made.cut_R)

    with keeping_in(cache):
        beside = f".{file.name}.{uuid4().hex}.writing"  # another fold may be doing the same
        write_atomically(file, write, beside=beside)
    return made, False


def _key(row: Fields) -> str:
    """A hash of the columns of a row, in the order in which they are read: a cut is by column."""
    return hashlib.sha256(json.dumps(list(row.values())).encode()).hexdigest()[:32]


def _open(file: Path, keys: list[str]) -> RowTokens | None:
    """The tokens in this file, whose sums say that each byte is as it was written; None for a damaged one, which is
    then written again."""
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as kept:
            found = RowTokens(keys=keys, ids_T=kept["ids"], offsets=kept["offsets"], cut_R=kept["cut"])
    except DAMAGED:
        return None
    whole = len(found.cut_R) == len(keys) == len(found.offsets) - 1 and len(found.ids_T) == found.offsets[-1]
    return found if whole else None
