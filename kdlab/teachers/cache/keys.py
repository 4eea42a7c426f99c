"""The key of an entry: a hash of all that decides which predictions a teacher is asked for.

That is what the teacher reads (its ids, of an encoder-decoder model the source and the labels) and which positions are
supervised. A key is made from a batch or an example itself, never from a place in a file: however the data are
shuffled, packed, cut or split, a signal is found by what it is the signal of, or not at all.

Shape letters: B batch, T time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdlab.batch import Batch
from kdlab.data.store import Example
from kdlab.rows import IGNORE

BYTES = 16
"""Length of a key: no two of 10^12 entries are expected to share one."""


def key(ids_T: NDArray[np.int32], supervised_T: NDArray[np.bool_], source_S: NDArray[np.int32] | None = None) -> bytes:
    """The key of one example as the teacher reads it."""
    digest = hashlib.blake2b(digest_size=BYTES)
    parts: list[NDArray[Any]] = [] if source_S is None else [source_S]
    parts += [ids_T, np.packbits(supervised_T)]
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + np.ascontiguousarray(part).tobytes())
    return digest.digest()


def key_of(example: Example) -> bytes:
    """The key of a stored example. A decoder is told labels only, so other ids do not matter to it."""
    supervised_T = np.array(example.supervised, np.bool_)
    if example.source_ids is None:
        supervised_T[:1] = False
        return key(example.input_ids.astype(np.int32), supervised_T)
    end = int(np.flatnonzero(supervised_T).max(initial=-1)) + 1  # as in a batch, where labels are padded
    labels_T = np.where(supervised_T, example.input_ids, IGNORE).astype(np.int32)[:end]
    return key(labels_T, supervised_T[:end], example.source_ids.astype(np.int32))


def keys_of(batch: Batch) -> list[tuple[bytes, int]]:
    """The key and the number of rows of every example of a batch, in the order of its rows (`rows.supervised`); such
    without a supervised position are left out."""
    found = []
    for ids_T, labels_T, source_S in _examples(batch):
        supervised_T = labels_T != IGNORE
        if count := int(supervised_T.sum()):
            read_T = ids_T if source_S is None else labels_T
            found.append((key(read_T.astype(np.int32), supervised_T, source_S), count))
    return found


def _examples(batch: Batch) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32] | None]]:
    """Ids, labels and, of an encoder-decoder's batch, the source of each example, without padding."""
    ids_BT, labels_BT = batch.input_ids_BT.cpu().numpy(), batch.labels_BT.cpu().numpy()
    if batch.attention_mask_BT is None:
        assert batch.position_ids_BT is not None
        positions_BT = batch.position_ids_BT.cpu().numpy()
        for ids_T, labels_T, positions_T in zip(ids_BT, labels_BT, positions_BT, strict=True):
            begins = [*np.flatnonzero(positions_T == 0).tolist(), len(ids_T)]
            for begin, end in pairwise(begins):
                yield ids_T[begin:end], labels_T[begin:end], None
        return
    mask_BT = batch.attention_mask_BT.cpu().numpy().astype(bool)
    for ids_T, labels_T, mask_T in zip(ids_BT, labels_BT, mask_BT, strict=True):
        if batch.shift:
            yield ids_T[mask_T], labels_T[mask_T], None
        else:
            written = np.flatnonzero(labels_T != IGNORE)
            end = int(written[-1]) + 1 if len(written) else 0
            yield ids_T[mask_T], labels_T[:end], ids_T[mask_T].astype(np.int32)
