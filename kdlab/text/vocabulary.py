"""Token strings as bytes, and which ids of two vocabularies mean the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kdlab.text.templates import chat_template, turn_end

if TYPE_CHECKING:
    import torch
    from torch import Tensor

EXAMPLES = 8
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """The bytes of every id, uint8 and 0 behind their end, and how many: 0 for an id that stands for no text."""

    bytes_VL: Tensor
    lengths_V: Tensor

    def to(self, device: torch.device | str) -> Spelling:
        return Spelling(bytes_VL=self.bytes_VL.to(device), lengths_V=self.lengths_V.to(device))


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Ids that mean the same string: `student_K[i]` and `teacher_K[i]`, each at most once, the student's rising.

    The losses that compare strings need the spellings too.
    """

    student_K: Tensor
    teacher_K: Tensor
    student_spelling: Spelling | None = None
    teacher_spelling: Spelling | None = None

    def __len__(self) -> int:
        return len(self.student_K)

    def to(self, device: torch.device | str) -> Matched:
        return replace(
            self,
            student_K=self.student_K.to(device),
            teacher_K=self.teacher_K.to(device),
            student_spelling=self.student_spelling and self.student_spelling.to(device),
            teacher_spelling=self.teacher_spelling and self.teacher_spelling.to(device),
        )


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One tokenizer: its entries, its special tokens as written (None: it has none), the token that its chat template
    ends a turn with, whether that template is its own, and how it writes bytes (`spelling`)."""

    entries: int
    spelling: str
    eos: str | None
    bos: str | None
    pad: str | None
    turn_end: str | None
    own_template: bool


@dataclass(frozen=True, kw_only=True)
class Audit:
    """How two tokenizers meet: what each is, how many ids mean the same, and the first that the other does not have,
    as text (bytes that are no text as \\xNN)."""

    student: Facts
    teacher: Facts
    matched: int
    unmatched_student: tuple[str, ...]
    unmatched_teacher: tuple[str, ...]

    @property
    def student_share(self) -> float:
        """The part of the student's entries that the teacher has too."""
        return self.matched / max(1, self.student.entries)

    @property
    def teacher_share(self) -> float:
        """The part of the teacher's entries that the student has too."""
        return self.matched / max(1, self.teacher.entries)


def token_bytes(tokenizer: Any) -> list[bytes | None]:
    """The bytes each id stands for in a text; None for special tokens and ids without a token.

    A leading space is written out, however the tokenizer writes it (Ġ, ▁, or a WordPiece that begins a word).
    """
    table: list[bytes | None] = list(spelt(tokenizer))
    for i in special_ids(tokenizer):
        if i < len(table):
            table[i] = None
    return [spelling or None for spelling in table]


def special_ids(tokenizer: Any) -> set[int]:
    """Ids of control tokens: they stand for no text."""
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | set(tokenizer.all_special_ids)


def spelt(tokenizer: Any) -> list[bytes]:
    """The bytes of every id as they stand in a text, special tokens by their names; b"" for an id without a token."""
    read = _READERS[spelling(tokenizer)]
    vocabulary = tokenizer.get_vocab()
    table = [b""] * (1 + max(vocabulary.values(), default=-1))
    for token, i in vocabulary.items():
        table[i] = read(token)
    for i, token in tokenizer.added_tokens_decoder.items():
        table[i] = str(token.content).encode()
    return table


def spelling(tokenizer: Any) -> str:
    """How a tokenizer writes bytes in its tokens: "bytes" (GPT-2's alphabet), "spaces" (SentencePiece: ▁ and <0xNN>),
    "pieces" (WordPiece: ## goes on a word) or "plain"."""
    if tokenizer.is_fast:
        core = tokenizer.backend_tokenizer
        if "ByteLevel(" in f"{core.pre_tokenizer} {core.decoder}":
            return "bytes"
        if type(core.model).__name__ == "WordPiece":
            return "pieces"
    vocabulary = tokenizer.get_vocab()
    if any("▁" in token for token in vocabulary):
        return "spaces"
    return "bytes" if any("Ġ" in token for token in vocabulary) else "plain"


def _alphabet() -> dict[int, int]:
    """GPT-2's letters for bytes, as code points: printable ones stand for themselves, the others follow from U+0100 on.
    No other letter stands for a byte."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return dict.fromkeys(hidden, 0xFFFF) | {256 + i: byte for i, byte in enumerate(hidden)}


_LETTERS = _alphabet()


def _read_bytes(token: str) -> bytes:
    try:
        return token.translate(_LETTERS).encode("latin-1")
    except UnicodeEncodeError:  # no byte-level token; it was put in by hand
        return token.encode()


def _read_spaces(token: str) -> bytes:
    byte = _BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()


def _read_pieces(token: str) -> bytes:
    return token[2:].encode() if token.startswith("##") else b" " + token.encode()


def _read_plain(token: str) -> bytes:
    return token.encode()


_READERS: dict[str, Callable[[str], bytes]] = {
    "bytes": _read_bytes,
    "spaces": _read_spaces,
    "pieces": _read_pieces,
    "plain": _read_plain,
}


def match(student: Any, teacher: Any, *, template: str | None = None) -> Matched:
    """Which ids of two tokenizers mean the same: the same bytes; and the token that ends a turn, EOS and BOS.

    `template` is the student's chat template where it is not its own (`dataset.template`).

    Where a tokenizer writes the same bytes twice (a letter, and its byte as <0xNN>), the first that is no byte counts.
    Where EOS is also the token that ends a turn in one of the two, it is paired as the latter.
    """
    import torch

    student_bytes, teacher_bytes = token_bytes(student), token_bytes(teacher)
    ours, theirs = _by_bytes(student, student_bytes), _by_bytes(teacher, teacher_bytes)
    pairs = {i: theirs[spelling] for spelling, i in ours.items() if spelling in theirs}
    for i, j in _control_pairs(student, teacher, template):
        if i not in pairs and j not in pairs.values():
            pairs[i] = j
    ordered = sorted(pairs.items())
    return Matched(
        student_K=torch.tensor([i for i, _ in ordered], dtype=torch.long),
        teacher_K=torch.tensor([j for _, j in ordered], dtype=torch.long),
        student_spelling=spelling_table(student_bytes),
        teacher_spelling=spelling_table(teacher_bytes),
    )


def spelling_table(bytes_of: list[bytes | None]) -> Spelling:
    """The bytes of every id as one table."""
    import numpy as np
    import torch

    strings = [b"" if spelling is None else spelling for spelling in bytes_of]
    longest = max(map(len, strings), default=0)
    padded = np.frombuffer(b"".join(spelling.ljust(longest, b"\0") for spelling in strings), dtype=np.uint8)
    return Spelling(
        bytes_VL=torch.from_numpy(padded.reshape(len(strings), longest).copy()),
        lengths_V=torch.tensor([len(spelling) for spelling in strings], dtype=torch.long),
    )


def _by_bytes(tokenizer: Any, bytes_of: list[bytes | None]) -> dict[bytes, int]:
    """The id that each string of bytes is matched by."""
    names = {i: token for token, i in tokenizer.get_vocab().items()}
    found: dict[bytes, int] = {}
    for i, spelling in enumerate(bytes_of):
        if spelling is not None and (spelling not in found or _BYTE.fullmatch(names[found[spelling]])):
            found[spelling] = i
    return found


def _control_pairs(student: Any, teacher: Any, template: str | None) -> list[tuple[int, int]]:
    pairs = [
        (turn_end(student, chat_template(student, template)), turn_end(teacher, chat_template(teacher))),
        (student.eos_token_id, teacher.eos_token_id),
        (student.bos_token_id, teacher.bos_token_id),
    ]
    return [(i, j) for i, j in pairs if i is not None and j is not None]


def audit(student: Any, teacher: Any, *, template: str | None = None) -> Audit:
    """What `kdlab check` says of two tokenizers. `template` as in `match`."""
    matched = match(student, teacher, template=template)
    return Audit(
        student=_facts(student, template),
        teacher=_facts(teacher),
        matched=len(matched),
        unmatched_student=_unmatched(student, set(matched.student_K.tolist())),
        unmatched_teacher=_unmatched(teacher, set(matched.teacher_K.tolist())),
    )


def _facts(tokenizer: Any, template: str | None = None) -> Facts:
    end = turn_end(tokenizer, chat_template(tokenizer, template))
    return Facts(
        entries=len(tokenizer),
        spelling=spelling(tokenizer),
        eos=tokenizer.eos_token,
        bos=tokenizer.bos_token,
        pad=tokenizer.pad_token,
        turn_end=None if end is None else str(tokenizer.convert_ids_to_tokens(end)),
        own_template=tokenizer.chat_template is not None,
    )


def _unmatched(tokenizer: Any, matched: set[int]) -> tuple[str, ...]:
    others = [b for i, b in enumerate(token_bytes(tokenizer)) if b is not None and i not in matched]
    return tuple(b.decode(errors="backslashreplace") for b in others[:EXAMPLES])
