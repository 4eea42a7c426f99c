"""Which token a server means by a name. Importable without torch."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kdlab.teachers.server.answers import AnswerError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKEN_ID = re.compile(r"token_id:(\d+)")
CUT = "\N{REPLACEMENT CHARACTER}"
"""What the bytes of a cut character are decoded to: it tells nothing."""


class TokenNames:
    """The tokens of a tokenizer by what servers call them: "token_id:12", the text that a token is decoded to, or its
    piece in the vocabulary. A name is taken only where it is that of one token; nothing is guessed.

    `vocabulary` is the number of entries of the server's head. Many threads may ask at once.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self._tokenizer = tokenizer
        self._read: dict[int, str] = {}
        self._tables: tuple[list[str], list[str]] | None = None
        self._index: dict[int, dict[str, list[int]]] = {}
        self._lock = threading.Lock()

    def agree(self, token: int, text: str | None) -> None:
        """Raise AnswerError where the server reads another text in `token` than we: it has another tokenizer."""
        if not text or token >= len(self._tokenizer):
            return
        ours = self._read.get(token)
        if ours is None:
            ours = self._read[token] = self._decode([token])[0]
        if CUT in text or CUT in ours or text.strip() == ours.strip():
            return
        if text != self._tokenizer.convert_ids_to_tokens(token):
            raise AnswerError(
                f"token {token} reads {text!r} there and {ours!r} here: teacher.path is not the tokenizer of its model",
                again=False,
            )

    def reading(self, names: Sequence[str], ids: Sequence[int]) -> Callable[[str], int]:
        """How to read the names of an answer that calls the tokens `ids` of the prompt `names`. What is returned gives
        the id of a name and raises AnswerError for one that is no token's, or several tokens'."""
        numbers = [TOKEN_ID.fullmatch(name) for name in names]
        if all(numbers):
            if [_number(name) for name in names] != list(ids):
                raise AnswerError("tells of other tokens than were sent")
            return _number
        tables = self._all()
        for place, table in enumerate(tables):
            if all(i < len(table) and table[i] == name for i, name in zip(ids, names, strict=True)):
                return lambda name: self._one(name, self._index[place])
        i, name = next((i, n) for i, n in zip(ids, names, strict=True) if i >= len(tables[0]) or tables[0][i] != n)
        ours = tables[0][i] if i < len(tables[0]) else None
        raise AnswerError(f"names token {i} of the prompt {name!r}, and the tokenizer of teacher.path reads {ours!r}")

    def _one(self, name: str, index: dict[str, list[int]]) -> int:
        found = index.get(name, [])
        if len(found) == 1:
            return found[0]
        if not found:
            raise AnswerError(f"names a token {name!r}, which the tokenizer of teacher.path has not", again=False)
        raise AnswerError(
            f"names a token {name!r}, and tokens {found[0]} and {found[1]} both read so; only a server that names "
            "tokens by id can teach here (teacher.server.protocol=vllm, sglang or llamacpp)",
            again=False,
        )

    def _all(self) -> tuple[list[str], list[str]]:
        with self._lock:
            if self._tables is None:
                ids = list(range(len(self._tokenizer)))
                pieces = [str(piece) for piece in self._tokenizer.convert_ids_to_tokens(ids)]
                self._tables = (self._decode(ids), pieces)
                for place, table in enumerate(self._tables):
                    index = self._index[place] = {}
                    for i, name in enumerate(table):
                        index.setdefault(name, []).append(i)
            return self._tables

    def _decode(self, ids: Sequence[int]) -> list[str]:
        alone = [[i] for i in ids]
        texts: list[str] = self._tokenizer.batch_decode(
            alone, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return texts


def _number(name: str) -> int:
    found = TOKEN_ID.fullmatch(name)
    if found is None:
        raise AnswerError(f"names a token {name!r} among others that it numbers")
    return int(found[1])
