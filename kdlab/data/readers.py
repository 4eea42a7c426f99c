"""Who reads the rows: the student's encoder and, where the teacher has a tokenizer of its own, the teacher's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdlab.data.pairing import Teacher
from kdlab.data.token_file import Tokens
from kdlab.text.encoding import Encoder
from kdlab.text.formats import Wording
from kdlab.text.templates import read_template

if TYPE_CHECKING:
    from kdlab.data.dataset import DatasetConfig, Side


@dataclass(frozen=True, kw_only=True)
class Readers:
    """`wording` is how rows become documents, for both. `pad_id` and `bos_id` are the teacher's: what pads its batches,
    and what it begins a text with (None: nothing)."""

    student: Encoder
    wording: Wording
    teacher: Encoder | None = None
    pad_id: int = 0
    bos_id: int | None = None

    def paired(self, tokens: Tokens | None) -> Teacher | None:
        """The teacher's side of some rows, given its tokens of them."""
        return None if tokens is None else Teacher(tokens=tokens, pad_id=self.pad_id, bos_id=self.bos_id)


def open_readers(config: DatasetConfig, student: Side, teacher: Side | None) -> Readers:
    """The readers of a dataset. `dataset.template` is the student's; a teacher keeps the template it was trained with.

    Raises ValueError where the options do not fit an encoder-decoder, or two tokenizers.
    """
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
        prefix=config.prefix, source_language=config.source_language, target_language=config.target_language
    )
    encoder = Encoder(
        student.tokenizer,
        template=read_template(config.template) if config.template is not None else None,
        supervise=config.supervise,
        seq2seq=student.seq2seq,
        bytes_too=teacher is not None,
    )
    if teacher is None:
        return Readers(student=encoder, wording=wording)
    other = Encoder(teacher.tokenizer, supervise=config.supervise, seq2seq=teacher.seq2seq, bytes_too=True)
    return Readers(student=encoder, wording=wording, teacher=other, pad_id=_pad_id(teacher), bos_id=_bos_id(teacher))


def _pad_id(side: Side) -> int:
    """The pad token, else EOS: the first that the model can look up. Padding is masked, but read."""
    known = [i for i in (side.tokenizer.pad_token_id, side.tokenizer.eos_token_id) if i is not None]
    return next((int(i) for i in known if side.entries is None or i < side.entries), 0)


def _bos_id(side: Side) -> int | None:
    """What a tokenizer puts before a plain text."""
    bos_id = side.tokenizer.bos_token_id
    begins = bos_id is not None and not side.seq2seq and side.tokenizer("a")["input_ids"][:1] == [bos_id]
    return int(bos_id) if begins else None
