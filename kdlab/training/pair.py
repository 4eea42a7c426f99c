"""A student and its teacher reading the same batch: what comes out is rows.

Shape letters: B batch, T time, N rows, M rows of a teacher with another tokenizer, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.models.classifier import ClassifierSplit, split_of
from kdlab.models.head import SplitModel
from kdlab.models.pair import CROSS, shared_entries
from kdlab.rows import PairRows, Rows, cut, supervised, whole
from kdlab.text.alignment import Stretch, align
from kdlab.text.vocabulary import Matched, match

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kdlab.losses.base import Loss
    from kdlab.models.student import Student
    from kdlab.rows import Side, Signal
    from kdlab.teachers.base import Teacher
    from kdlab.training.deciding import Deciding


@dataclass(frozen=True, kw_only=True)
class ModelPair:
    """A student and its teacher (None: labels alone), and how their vocabularies meet.

    `shared` is how many ids mean the same to both, where both sides are cut to these (`loss.vocab=shared`); `matched`
    which ids of two tokenizers mean the same string, for the cross-tokenizer losses.
    """

    split: SplitModel | ClassifierSplit
    teacher: Teacher | None
    shared: int | None = None
    matched: Matched | None = None
    tokenizer: PreTrainedTokenizerBase | None = None
    """The student's, which the batches were made with."""
    judge: Teacher | None = None
    """Whose predictions of held-out rows the student is measured by (None: the teacher's)."""
    deciding: Deciding | None = None
    """What is decided about whole texts (None: the models write text)."""

    def judged(self) -> ModelPair:
        """The pair as held-out rows are measured."""
        return self if self.judge is None else replace(self, teacher=self.judge)

    def rows(self, batch: Batch, *, taught: bool = True) -> Rows | PairRows:
        """The rows of one batch, the student's side with its graph where gradients are on.

        `taught` False leaves the teacher out. A batch that carries the teacher's own reading gives `PairRows` where it
        is that of another tokenizer; where it is that of another prompt, its rows are the student's, one for one.
        """
        positions_N, labels_N = supervised(batch.labels_BT, shift=batch.shift)
        if batch.teacher is not None and taught and self.matched is not None:
            return self._paired(batch, batch.teacher, positions_N, labels_N)
        signal = self._rows_signal(batch, positions_N, labels_N) if taught and self.teacher is not None else None
        student = self._student(batch, positions_N)
        if self.shared is None:
            rows = Rows(student=student, teacher=signal, labels_N=labels_N)
            return rows if self.deciding is None else self.deciding.weigh(rows)
        student, student_rest = cut(student, self.shared)
        teacher, teacher_rest = (None, None) if signal is None else cut(signal, self.shared)
        return Rows(
            student=student,
            teacher=teacher,
            labels_N=labels_N,
            student_rest=student_rest,
            teacher_rest=teacher_rest,
        )

    def teacher_batch(self, batch: Batch) -> Batch:
        """The batch as the teacher reads it. Raises as `within` does."""
        read = batch.teacher or batch
        return read if self.shared is None else within(read, self.shared, self.tokenizer)

    def _paired(self, batch: Batch, theirs: Batch, positions_N: Tensor, labels_N: Tensor) -> PairRows:
        positions_M, teacher_labels_M = supervised(theirs.labels_BT, shift=theirs.shift)
        span_N, span_M, spans = align(_stretch(batch, positions_N), _stretch(theirs, positions_M))
        signal = whole(self._signal(theirs, positions_M), "a loss between two tokenizers")
        return PairRows(
            student=self._student(batch, positions_N),
            teacher=signal,
            labels_N=labels_N,
            teacher_labels_M=teacher_labels_M,
            student_span_N=span_N,
            teacher_span_M=span_M,
            spans=spans,
        )

    def _rows_signal(self, batch: Batch, positions_N: Tensor, labels_N: Tensor) -> Signal:
        """What the teacher predicts at the student's rows, wherever they are in its own reading."""
        read = self.teacher_batch(batch)
        if batch.teacher is not None:
            positions_N, theirs_N = supervised(read.labels_BT, shift=read.shift)
            assert torch.equal(theirs_N, labels_N), "both read the same answer, so their rows have the same labels"
        return self._signal(read, positions_N)

    def _signal(self, batch: Batch, positions_N: Tensor) -> Signal:
        assert self.teacher is not None
        with torch.no_grad(), torch.autocast(batch.input_ids_BT.device.type, enabled=False):
            return self.teacher.signal(batch, positions_N)

    def _student(self, batch: Batch, positions_N: Tensor) -> Side:
        hidden_BTH = self.split.hidden(batch)
        hidden_NH = hidden_BTH.reshape(-1, hidden_BTH.shape[-1])[positions_N]
        device = hidden_NH.device.type
        if torch.is_autocast_enabled(device) and not batch.decides:
            # The last norm leaves float32; autocast would narrow it at the head, and the engine multiplies in it.
            hidden_NH = hidden_NH.to(torch.get_autocast_dtype(device))
        return self.split.project(hidden_NH)


def pair_up(loss: Loss, student: Student, teacher: Teacher | None, *, template: str | None = None) -> ModelPair:
    """The two side by side, as the loss pairs their vocabularies. Raises ValueError where it cannot. `template` is the
    chat template that the student is given in place of its own."""
    split = split_of(student.model)
    if teacher is None or loss.pairing == "strict" or isinstance(split, ClassifierSplit):
        return ModelPair(split=split, teacher=teacher)
    if loss.pairing == "cross":
        matched = match(student.tokenizer, teacher.tokenizer, template=template)
        return ModelPair(split=split, teacher=teacher, matched=matched)
    shared = shared_entries(
        student.tokenizer, teacher.tokenizer, entries=split.vocabulary, teacher_entries=teacher.vocabulary
    )
    return ModelPair(split=split, teacher=teacher, shared=shared, tokenizer=student.tokenizer)


def within(batch: Batch, shared: int, tokenizer: PreTrainedTokenizerBase | None) -> Batch:
    """The batch as a teacher reads it that shares only the first `shared` ids with the student's tokenizer.

    Padding by a token of the student's own is replaced: it is masked, but the teacher must be able to look it up. Any
    other id that is not shared raises ValueError, naming the token: the teacher cannot read it, nor predict it.
    """
    ids_BT, labels_BT = batch.input_ids_BT, batch.labels_BT
    if max(int(ids_BT.max()), int(labels_BT.max())) < shared:
        return batch
    pad = tokenizer.pad_token_id if tokenizer is not None else None
    foreign_BT = ids_BT >= shared
    if batch.attention_mask_BT is not None:
        asked_BT = foreign_BT & batch.attention_mask_BT.bool()  # a pad token inside a text is no padding
    else:
        asked_BT = foreign_BT if pad is None else foreign_BT & (ids_BT != pad)
    asked = [*ids_BT[asked_BT].tolist(), *labels_BT[labels_BT >= shared].tolist()]
    if asked:
        token = tokenizer.convert_ids_to_tokens(asked[0]) if tokenizer is not None else None
        raise ValueError(
            f"loss.vocab=shared: the data has the token {token!r} (id {asked[0]}), and only ids below {shared} mean "
            f"the same to the teacher; take data without it, or choose {CROSS}"
        )
    return replace(batch, input_ids_BT=ids_BT.masked_fill(foreign_BT, 0))


def _stretch(batch: Batch, positions_N: Tensor) -> Stretch:
    """Where the labels of these rows lie in the bytes of their example."""
    assert batch.starts_BT is not None
    assert batch.ends_BT is not None
    labels_N = positions_N + 1 if batch.shift else positions_N
    example_N = positions_N // batch.labels_BT.shape[1]
    return Stretch(
        example_N=example_N, start_N=batch.starts_BT.reshape(-1)[labels_N], end_N=batch.ends_BT.reshape(-1)[labels_N]
    )
