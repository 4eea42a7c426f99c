"""The same text as two read it: rows of both, and which of the teacher's tokens a student's example covers.

The student's example decides. Where both have one tokenizer and only their prompts differ, the teacher's example is its
whole prompt and, token for token, the answer as far as the student's example has it (`answered`).

Where each has a tokenizer of its own, the student's example covers a stretch of bytes `[b0, b1)` of the supervised
text, and the teacher's example is its own tokens within these (`covered`). So a token that straddles an edge is left
out, and no token is in two examples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdlab.data.token_file import Tokens

Ints = NDArray[np.int64]
Ids = NDArray[np.int32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A teacher's side of some rows: its tokens, what pads them, and what it begins a text with (None: nothing).

    `same_tokens`: they are of the student's own tokenizer. `prompted`: behind a prompt of its own, which an encoder
    reads whole, however long `dataset.max_length` is.
    """

    tokens: Tokens
    pad_id: int
    bos_id: int | None
    same_tokens: bool = False
    prompted: bool = False


def partners(file: Tokens, other: Tokens) -> Ints:
    """The document of `other` made of the same row as each of `file`'s `[documents]`; -1 where there is none."""
    if not len(other):
        return np.full(len(file), -1)
    places = np.searchsorted(other.rows, file.rows)
    places[places == len(other)] = 0
    return np.where(other.rows[places] == file.rows, places, -1)


def targets(file: Tokens) -> tuple[Ints, Ints]:
    """The places of all tokens that are predicted, and the first of each document's `[documents + 1]` among them. A
    document's first token is none, but where an encoder has read before it."""
    targets_T = np.array(file.supervised_T, np.bool_)
    if not file.seq2seq:
        targets_T[file.offsets[:-1][file.lengths > 0]] = False
    places_K = np.flatnonzero(targets_T)
    return places_K, np.searchsorted(places_K, file.offsets)


def alike(file: Tokens, other: Tokens) -> Bools:
    """Which documents `[documents]` have a partner in `other` that predicts the same ids in the same order."""
    theirs = partners(file, other)
    (ours_K, our_firsts), (theirs_K, their_firsts) = targets(file), targets(other)
    our_ids_K, their_ids_K = np.asarray(file.ids_T[ours_K]), np.asarray(other.ids_T[theirs_K])
    found = theirs >= 0
    for document in np.flatnonzero(found).tolist():
        partner = theirs[document]
        ours = our_ids_K[our_firsts[document] : our_firsts[document + 1]]
        found[document] = np.array_equal(ours, their_ids_K[their_firsts[partner] : their_firsts[partner + 1]])
    return found


def answered(file: Tokens, other: Tokens, *, stops: Ints, source: Ints) -> tuple[Ints, Ints]:
    """The ranges of `other`'s tokens from the beginning of a document to the last token that the student's example
    predicts of it. Each must have a partner that is `alike`, and begin where its document does; `stops` are the ends of
    the student's ranges, and `source` their documents."""
    theirs = partners(file, other)[source]
    (ours_K, our_firsts), (theirs_K, their_firsts) = targets(file), targets(other)
    predicted = np.searchsorted(ours_K, stops) - our_firsts[source]
    assert (predicted > 0).all()
    return other.offsets[theirs], theirs_K[their_firsts[theirs] + predicted - 1] + 1


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
