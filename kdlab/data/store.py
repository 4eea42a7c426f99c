"""Examples, looked at through ranges of the tokens on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kdlab.data.token_file import Tokens

Ints = NDArray[np.int64]
Ids = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Example:
    """Token ids `[T]` and which of them are targets `[T]`: never the first, as nothing comes before it. Where there is
    an encoder it reads `source_ids` `[S]`, and every one of `input_ids`, the first too, may be a target.

    `row` is the row of the source it was made of, from 0; None for one that was made up. `teacher` is the same text as
    a teacher with another tokenizer or prompt reads it. `starts` and `ends` `[T]`, there for another tokenizer, are
    where in its bytes each token lies, -1 for one that lies nowhere.

    `label` is what is decided about the whole text: a class, or of a regression a number. No token is then supervised.
    """

    input_ids: Ids
    supervised: NDArray[np.bool_]
    row: int | None = None
    source_ids: Ids | None = None
    starts: Ids | None = None
    ends: Ids | None = None
    teacher: Example | None = None
    label: int | float | None = None

    def __len__(self) -> int:
        return len(self.input_ids) + (0 if self.source_ids is None else len(self.source_ids))


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What examples are laid out by: the padding token, and how wide a batch may become to be a multiple of 8 (None: as
    wide as it takes).

    `seq2seq` examples have an encoder's side, at most `longest`, and a decoder's, at most `longest_target`. `teacher`
    lays out what a teacher with another tokenizer or prompt reads. `decides`: each example has one label, a "class" or
    a "number" (None: labels are tokens).
    """

    pad_id: int
    longest: int | None = None
    longest_target: int | None = None
    seq2seq: bool = False
    teacher: Layout | None = None
    decides: str | None = None


class TokenStore:
    """Examples as ranges `[start, stop)` of a token file; `source` is the document each came from.

    An encoder reads the first `max_length` tokens of its document, whatever the range of the target. `teacher` holds
    the same examples, one for one, as a teacher with another tokenizer or prompt reads them. Such a store has `bos_id`,
    which it puts in front of examples that begin inside a document (None: nothing), and `pad_id`.
    """

    def __init__(
        self,
        file: Tokens,
        *,
        starts: Ints,
        stops: Ints,
        source: Ints,
        max_length: int,
        max_target_length: int | None = None,
        bos_id: int | None = None,
        pad_id: int | None = None,
        teacher: TokenStore | None = None,
    ) -> None:
        assert len(starts) == len(stops) == len(source)
        assert teacher is None or len(teacher) == len(starts)
        self.file = file
        self.starts, self.stops, self.source, self.max_length = starts, stops, source, max_length
        self.max_target_length = max_target_length if max_target_length is not None else max_length
        self.bos_id, self.pad_id, self.teacher = bos_id, pad_id, teacher

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, i: int) -> Example:
        start, stop, document = int(self.starts[i]), int(self.stops[i]), int(self.source[i])
        file, span = self.file, slice(start, stop)
        bos_id = self.bos_id if self.bos_id is not None and start > file.offsets[document] else None
        supervised = np.array(file.supervised_T[span], bool)
        if bos_id is None and not file.seq2seq:
            supervised[:1] = False
        example = Example(
            input_ids=np.array(file.ids_T[span], np.int32),
            supervised=supervised,
            row=int(file.rows[document]),
            source_ids=file.source(document, max_length=self.max_length) if file.seq2seq else None,
            starts=None if file.starts_T is None else np.array(file.starts_T[span]),
            ends=None if file.ends_T is None else np.array(file.ends_T[span]),
            teacher=None if self.teacher is None else self.teacher[i],
        )
        return example if bos_id is None else begun(example, bos_id)

    def only(self, chosen: NDArray[np.bool_]) -> TokenStore:
        """The chosen examples, on both sides."""
        return TokenStore(
            self.file,
            starts=self.starts[chosen],
            stops=self.stops[chosen],
            source=self.source[chosen],
            max_length=self.max_length,
            max_target_length=self.max_target_length,
            bos_id=self.bos_id,
            pad_id=self.pad_id,
            teacher=None if self.teacher is None else self.teacher.only(chosen),
        )

    def layout(self, *, pad_id: int) -> Layout:
        """How batches of these examples are laid out."""
        theirs = None
        if self.teacher is not None:
            assert self.teacher.pad_id is not None
            theirs = Layout(pad_id=self.teacher.pad_id, seq2seq=self.teacher.seq2seq)
        return Layout(
            pad_id=pad_id,
            longest=self.max_length,
            longest_target=self.max_target_length,
            seq2seq=self.seq2seq,
            teacher=theirs,
        )

    @property
    def seq2seq(self) -> bool:
        return self.file.seq2seq

    @cached_property
    def source_lengths(self) -> Ints:
        """What the encoder reads of each example, in tokens."""
        return np.minimum(self.file.source_lengths[self.source], self.max_length)

    @cached_property
    def lengths(self) -> Ints:
        """Tokens of each example, read and written together."""
        return self.stops - self.starts + self.source_lengths + self._begun

    @cached_property
    def supervised(self) -> Ints:
        """Supervised tokens of each example."""
        firsts = self.starts if self.seq2seq else self.starts + 1 - self._begun
        return count_supervised(self.file.supervised_T, firsts, self.stops)

    @property
    def _begun(self) -> Ints:
        """1 for an example that has a BOS put in front, else 0."""
        inside = self.starts > self.file.offsets[self.source]
        return np.where(inside & (self.bos_id is not None), 1, 0)

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())

    @property
    def supervised_tokens(self) -> int:
        """The predictions all examples together ask for."""
        return int(self.supervised.sum())

    @cached_property
    def content_hash(self) -> str:
        """Changes when any token, mask or boundary of any example does, on either side."""
        digest = hashlib.sha256(self.file.content_hash.encode())
        digest.update(self.starts.tobytes() + self.stops.tobytes())
        if self.seq2seq:
            digest.update(self.source_lengths.tobytes())
        if self.bos_id is not None:
            digest.update(f"begins with {self.bos_id}".encode())
        if self.teacher is not None:
            digest.update(self.teacher.content_hash.encode())
        return digest.hexdigest()


def begun(example: Example, bos_id: int) -> Example:
    """The example with a token in front that lies nowhere in the text, so that its own first one may be predicted."""
    return replace(
        example,
        input_ids=np.insert(example.input_ids, 0, bos_id),
        supervised=np.insert(example.supervised, 0, False),
        starts=None if example.starts is None else np.insert(example.starts, 0, -1),
        ends=None if example.ends is None else np.insert(example.ends, 0, -1),
    )


def count_supervised(supervised_T: NDArray[np.bool_], starts: Ints, stops: Ints) -> Ints:
    """The supervised tokens in each range, none where it stops before it starts. Ranges rise and do not overlap."""
    counts = np.zeros(len(starts), np.int64)
    some = stops > starts
    if some.any():
        edges = np.stack([starts[some], stops[some]], axis=1).reshape(-1)
        if edges[-1] == len(supervised_T):
            edges = edges[:-1]  # reduceat sums from the last edge to the end, and wants every edge inside the array
        counts[some] = np.add.reduceat(supervised_T.view(np.uint8), edges, dtype=np.int64)[::2]
    return counts
