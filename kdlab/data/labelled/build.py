"""Rows with labels as each model's tokenizer reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdlab.data.dataset import Data, Side
from kdlab.data.labelled.store import LabelledStore
from kdlab.data.labelled.tokens import RowTokens, tokenised_rows
from kdlab.data.verdict import Part, Reading, TeacherPart, Verdict

if TYPE_CHECKING:
    from kdlab.data.labelled.reading import LabelledRows
    from kdlab.data.labelled.rows import Labelled


def build_labelled(labelled: Labelled, student: Side, teacher: Side | None = None) -> Data:
    """The rows as examples. With a `teacher` that has a tokenizer of its own, every example comes as both read it.

    Raises ValueError where the template alone is longer than `dataset.max_length` to either, and where
    `dataset.cache_dir` cannot be written to.
    """
    theirs = None if teacher is None else _reader(labelled, teacher)
    readers = _reader(labelled, student), theirs
    train, heldout = _made(labelled, labelled.train, *readers), _made(labelled, labelled.heldout, *readers)
    test = None if labelled.test is None else _made(labelled, labelled.test, *readers)
    verdict = Verdict(
        reading=_reading(labelled, labelled.train),
        heldout_reading=_reading(labelled, labelled.heldout) if labelled.heldout.read else None,
        split=labelled.how,
        train=train.part,
        heldout=heldout.part,
        test=None if test is None else test.part,
        cached=all(reader.cached for reader in readers if reader is not None),
    )
    return Data(
        train=train.store,
        heldout=heldout.store,
        verdict=verdict,
        test=None if test is None else test.store,
        labelled=labelled,
    )


@dataclass(frozen=True, kw_only=True)
class _Made:
    """Examples, and what became of their text."""

    store: LabelledStore
    part: Part


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Who reads the rows, and all of them as it reads them; `cached`: they were in the cache."""

    side: Side
    tokens: RowTokens
    cached: bool


def _reader(labelled: Labelled, side: Side) -> _Reader:
    if side.seq2seq:
        raise ValueError("dataset.labels: an encoder-decoder model decides about no text here; choose another model")
    rows = [fields for part in labelled.parts.values() for fields in part.fields]
    tokens, cached = tokenised_rows(
        labelled.template, side.tokenizer, rows, max_length=labelled.task.max_length, cache=labelled.cache
    )
    return _Reader(side=side, tokens=tokens, cached=cached)


def _made(labelled: Labelled, rows: LabelledRows, student: _Reader, teacher: _Reader | None) -> _Made:
    theirs, their_cut = (None, [0]) if teacher is None else _read(labelled, rows, teacher, None)
    store, cut = _read(labelled, rows, student, theirs)
    part = Part(
        examples=len(store),
        tokens=store.tokens,
        supervised=len(store),
        cut=sum(lost > 0 for lost in cut),
        cut_tokens=sum(cut),
    )
    if theirs is not None:
        part.teacher = TeacherPart(
            tokens=theirs.tokens,
            supervised=len(theirs),
            longest=int(theirs.lengths.max()),
            cut_sources=sum(lost > 0 for lost in their_cut),
            cut_source_tokens=sum(their_cut),
        )
    return _Made(store=store, part=part)


def _read(
    labelled: Labelled, rows: LabelledRows, reader: _Reader, teacher: LabelledStore | None
) -> tuple[LabelledStore, list[int]]:
    ids, cut = reader.tokens.of(rows.fields)
    store = LabelledStore(
        ids,
        labels=rows.labels,
        rows=rows.numbers,
        max_length=labelled.task.max_length,
        pad_id=reader.side.pad_id,
        teacher=teacher,
    )
    return store, cut


def _reading(labelled: Labelled, rows: LabelledRows) -> Reading:
    return Reading(
        source=rows.source,
        format="labels",
        columns=[*labelled.fields, labelled.task.column],
        rows=rows.read,
        skipped=dict(rows.skipped),
        documents=len(rows),
    )
