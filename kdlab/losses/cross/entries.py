"""Which entries of two vocabularies mean the same, and what they spell, as the formulas read it.

Shape letters: K matched entries, V student's vocabulary, W teacher's vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from kdlab.text.vocabulary import Matched, Spelling


@dataclass(frozen=True, kw_only=True)
class Entries:
    """`student_K[i]` and `teacher_K[i]` mean the same; `*_rest` are the entries that the other side does not have.

    `to_teacher_V` and `to_student_W` give the match of every entry, -1 where it has none. The spellings are there where
    the tokenizers gave them.
    """

    student_K: Tensor
    teacher_K: Tensor
    student_rest: Tensor
    teacher_rest: Tensor
    to_teacher_V: Tensor
    to_student_W: Tensor
    student_spelling: Spelling | None
    teacher_spelling: Spelling | None

    @classmethod
    def of(cls, matched: Matched, student: int, teacher: int, device: torch.device) -> Entries:
        """For heads of `student` and `teacher` entries. Matches that a head has no entry for do not count."""
        student_K, teacher_K = matched.student_K.to(device), matched.teacher_K.to(device)
        there_K = (student_K < student) & (teacher_K < teacher)
        student_K, teacher_K = student_K[there_K], teacher_K[there_K]
        to_teacher_V = student_K.new_full((student,), -1).index_copy_(0, student_K, teacher_K)
        to_student_W = student_K.new_full((teacher,), -1).index_copy_(0, teacher_K, student_K)
        student_rest, teacher_rest = ((match == -1).nonzero()[:, 0] for match in (to_teacher_V, to_student_W))
        assert len(student_rest) + len(student_K) == student, "an id of the student is matched twice"
        assert len(teacher_rest) + len(teacher_K) == teacher, "an id of the teacher is matched twice"
        return cls(
            student_K=student_K,
            teacher_K=teacher_K,
            student_rest=student_rest,
            teacher_rest=teacher_rest,
            to_teacher_V=to_teacher_V,
            to_student_W=to_student_W,
            student_spelling=spelt(matched.student_spelling, student, device),
            teacher_spelling=spelt(matched.teacher_spelling, teacher, device),
        )


def spelt(spelling: Spelling | None, entries: int, device: torch.device) -> Spelling | None:
    """A spelling for each of `entries` entries: a head may be padded beyond its tokenizer's ids, or cut."""
    if spelling is None:
        return None
    spelling = spelling.to(device)
    bytes_VL, lengths_V = spelling.bytes_VL[:entries], spelling.lengths_V[:entries]
    more = entries - len(lengths_V)
    return Spelling(bytes_VL=pad(bytes_VL, (0, 0, 0, more)), lengths_V=pad(lengths_V, (0, more)))
