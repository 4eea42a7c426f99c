"""The same text as two tokenizers read it: rows of both, and which of the teacher's tokens a student's example covers.

The student's example decides. What it covers is a stretch of bytes `[b0, b1)` of the supervised text; the teacher's
example is its own tokens within these. So a token that straddles an edge is left out, and no token is in two examples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdlab.data.token_file import Tokens

Ints = NDArray[np.int64]
Ids = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A teacher's side of some rows: its tokens, what pads them, and what it begins a text with (None: nothing)."""

    tokens: Tokens
    pad_id: int
    bos_id: int | None


def partners(file: Tokens, other: Tokens) -> Ints:
    """The document of `other` made of the same row as each of `file`'s `[documents]`; -1 where there is none."""
    if not len(other):
        return np.full(len(file), -1)
    places = np.searchsorted(other.rows, file.rows)
    places[places == len(other)] = 0
    return np.where(other.rows[places] == file.rows, places, -1)


def covered(file: Tokens, other: Tokens, *, starts: Ints, stops: Ints, source: Ints) -> tuple[Ints, Ints]:
    """The ranges of `other`'s tokens that ranges of `file`'s cover. `source`, their documents, rises; each must have a
    partner."""
    assert file.ends_T is not None
    assert other.starts_T is not None
    assert other.ends_T is not None
    theirs = partners(file, other)[source]
    assert (theirs >= 0).all()
    their_starts, their_stops = other.offsets[theirs], other.offsets[theirs + 1]
    parts = (starts > file.offsets[source]) | (stops < file.offsets[source + 1])
    for document in np.unique(source[parts]).tolist():
        group = slice(*np.searchsorted(source, [document, document + 1]).tolist())
        begin, end = int(file.offsets[document]), int(file.offsets[document + 1])
        span = slice(int(their_starts[group.start]), int(their_stops[group.start]))
        from_W, to_W = within(
            file.ends_T[begin:end],
            other.starts_T[span],
            other.ends_T[span],
            starts=starts[group] - begin,
            stops=stops[group] - begin,
        )
        their_starts[group], their_stops[group] = span.start + from_W, span.start + to_W
    return their_starts, their_stops


def within(ends_T: Ids, their_starts_T: Ids, their_ends_T: Ids, *, starts: Ints, stops: Ints) -> tuple[Ints, Ints]:
    """The ranges of a teacher's tokens that the ranges `[start, stop)` of a student's cover, within one document.

    From the beginning of the student's tokens means from the beginning of the teacher's (its own template and prompt,
    or BOS), and to the end likewise. Else these are the tokens that lie between the byte where the token before the
    range ends and the byte where the range's last one does; such that lie nowhere (-1) behind the last are left out.
    """
    T, M = len(ends_T), len(their_ends_T)
    ends_T = np.maximum.accumulate(ends_T)  # what lies nowhere ends where the token before it does
    reached_M = np.maximum.accumulate(their_ends_T)
    last_M = np.maximum.accumulate(np.where(their_starts_T >= 0, np.arange(1, M + 1), 0))
    from_W = np.searchsorted(np.maximum.accumulate(their_starts_T), ends_T[np.maximum(starts - 1, 0)])
    from_W = np.where(starts == 0, 0, from_W)
    to_W = np.searchsorted(reached_M, ends_T[stops - 1], side="right")
    to_W = np.where(to_W > 0, last_M[np.maximum(to_W - 1, 0)], 0)
    to_W = np.where(stops == T, M, to_W)
    return from_W, np.maximum(from_W, to_W)
