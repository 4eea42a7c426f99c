"""Who reads the rows: the student's encoder and, where the teacher has a tokenizer or a prompt of its own, the
teacher's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kdlab.data.pairing import Teacher
from kdlab.data.token_file import Tokens
from kdlab.text.encoding import Encoder
from kdlab.text.formats import OWN, Wording
from kdlab.text.templates import read_template

if TYPE_CHECKING:
    from kdlab.data.dataset import DatasetConfig, Side
    from kdlab.text.prompts import PromptConfig


@dataclass(frozen=True, kw_only=True)
class Readers:
    """`wording` and `teacher_wording` are how rows become documents. `pad_id` and `bos_id` are the teacher's: what pads
    its batches, and what it begins a text with (None: nothing). `same_tokens`: both have one tokenizer; `prompted`: the
    teacher has a prompt of its own."""

    student: Encoder
    wording: Wording
    teacher: Encoder | None = None
    teacher_wording: Wording = OWN
    same_tokens: bool = False
    prompted: bool = False
    pad_id: int = 0
    bos_id: int | None = None

    @property
    def sides(self) -> list[tuple[Encoder, Wording]]:
        """Who reads, the student first, and how a row is worded for it."""
        theirs = [] if self.teacher is None else [(self.teacher, self.teacher_wording)]
        return [(self.student, self.wording), *theirs]

    def paired(self, tokens: Tokens | None) -> Teacher | None:
        """The teacher's side of some rows, given its tokens of them."""
        if tokens is None:
            return None
        return Teacher(
            tokens=tokens,
            pad_id=self.pad_id,
            bos_id=self.bos_id,
            same_tokens=self.same_tokens,
            prompted=self.prompted,
        )


def open_readers(config: DatasetConfig, student: Side, teacher: Side | None, prompt: PromptConfig) -> Readers:
    """The readers of a dataset. `dataset.template` is the student's; a teacher with a tokenizer of its own keeps the
    template it was trained with, another reads the student's.

    Raises ValueError where the options do not fit an encoder-decoder, two tokenizers or two prompts.
    """
    from kdlab.data.dataset import refuse_prompt

    refuse_prompt(config, prompt)
    if config.pack and student.seq2seq:
        raise ValueError(
            "dataset.pack=true: an encoder-decoder reads one source at a time, so nothing can be packed; "
            "use dataset.group_by_length=true"
        )
    if config.pack and teacher is not None:
        raise ValueError(
            "dataset.pack=true: teacher and student have tokenizers of their own, and their examples would not end at "
            "the same places; use dataset.group_by_length=true"
        )
    if config.max_target_length is not None and not student.seq2seq:
        raise ValueError(
            f"dataset.max_target_length={config.max_target_length}: only an encoder-decoder has a target apart from "
            "what it reads; drop it, dataset.max_length holds for both together"
        )
    wording = Wording(
        prefix=config.prefix,
        source_language=config.source_language,
        target_language=config.target_language,
        prompt=prompt.student,
    )
    encoder = Encoder(
        student.tokenizer,
        template=read_template(config.template) if config.template is not None else None,
        supervise=config.supervise,
        seq2seq=student.seq2seq,
        bytes_too=teacher is not None,
    )
    theirs = replace(wording, prompt=prompt.of_teacher)
    readers = Readers(student=encoder, wording=wording, teacher_wording=theirs, prompted=prompt.privileged)
    if teacher is None and not prompt.privileged:
        return readers
    if teacher is None:
        return replace(readers, teacher=encoder, same_tokens=True, pad_id=student.pad_id)
    other = Encoder(teacher.tokenizer, supervise=config.supervise, seq2seq=teacher.seq2seq, bytes_too=True)
    return replace(readers, teacher=other, pad_id=teacher.pad_id, bos_id=_bos_id(teacher))


def _bos_id(side: Side) -> int | None:
    """What a tokenizer puts before a plain text."""
    bos_id = side.tokenizer.bos_token_id
    begins = bos_id is not None and not side.seq2seq and side.tokenizer("a")["input_ids"][:1] == [bos_id]
    return int(bos_id) if begins else None
