"""Rows with labels as each model's tokenizer reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdlab.data.dataset import Data, Side
from kdlab.data.labelled.store import LabelledStore
from kdlab.data.verdict import Part, Reading, TeacherPart, Verdict

if TYPE_CHECKING:
    from kdlab.data.labelled.reading import LabelledRows
    from kdlab.data.labelled.rows import Labelled


def build_labelled(labelled: Labelled, student: Side, teacher: Side | None = None) -> Data:
    """The rows as examples. With a `teacher` that has a tokenizer of its own, every example comes as both read it.

    Raises ValueError where the template alone is longer than `dataset.max_length` to either.
    """
    train = _made(labelled, labelled.train, student, teacher)
    heldout = _made(labelled, labelled.heldout, student, teacher)
    test = None if labelled.test is None else _made(labelled, labelled.test, student, teacher)
    verdict = Verdict(
        reading=_reading(labelled, labelled.train),
        heldout_reading=_reading(labelled, labelled.heldout) if labelled.heldout.read else None,
        split=labelled.how,
        train=train.part,
        heldout=heldout.part,
        test=None if test is None else test.part,
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


def _made(labelled: Labelled, rows: LabelledRows, student: Side, teacher: Side | None) -> _Made:
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
    labelled: Labelled, rows: LabelledRows, side: Side, teacher: LabelledStore | None
) -> tuple[LabelledStore, Sequence[int]]:
    if side.seq2seq:
        raise ValueError("dataset.labels: an encoder-decoder model decides about no text here; choose another model")
    ids, cut = labelled.template.encode(side.tokenizer, rows.fields, labelled.task.max_length)
    store = LabelledStore(
        ids,
        labels=rows.labels,
        rows=rows.numbers,
        max_length=labelled.task.max_length,
        pad_id=side.pad_id,
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
