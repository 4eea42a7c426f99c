"""The columns of a row, put together by a template, as token ids that fit: a text too long loses what it can spare.

    template = FieldTemplate("Context: {prompt}\\n\\nText: {response}")
    ids, cut = template.encode(tokenizer, [{"prompt": ..., "response": ...}], max_length=512)

Importable without torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any, NamedTuple

BATCH = 256
SPACES = ("Ġ", "▁")
"""How the tokens of byte-level and SentencePiece tokenizers begin that hold the space before them."""


class Span(NamedTuple):
    """Characters `[start, stop)` of a text that came from a column."""

    start: int
    stop: int


class FieldTemplate:
    """Text with columns in braces; a brace is written twice.

    Where a text is longer than is read, tokens go from the beginning of the columns' text, of the first column first.
    What the template itself says stays, every token of it, and so do the tokenizer's special tokens, which are added
    once, and the last token of the last column.
    """

    def __init__(self, template: str) -> None:
        """Raises ValueError for a template without a column, or with a brace that is not closed."""
        self.template = template
        try:
            parts = list(Formatter().parse(template))
        except ValueError as error:
            raise ValueError(f"dataset.labels.template: {error}; a brace of the text is written twice: {{{{") from error
        self._pieces: list[tuple[str, str | None]] = []
        for literal, field, form, conversion in parts:
            if field is not None and (not field or form or conversion):
                raise ValueError(
                    "dataset.labels.template: write each column as {column}, and a brace of the text twice: {{"
                )
            self._pieces.append((literal, field))
        if not self.fields:
            raise ValueError("dataset.labels.template: names no column; write one in braces, such as {text}")

    @property
    def fields(self) -> list[str]:
        """The columns, each once, in the order in which they are read."""
        return list(dict.fromkeys(field for _, field in self._pieces if field is not None))

    def fill(self, row: Mapping[str, str]) -> str:
        """The text of a row."""
        return self._filled(row)[0]

    def _filled(self, row: Mapping[str, str]) -> tuple[str, list[Span]]:
        text, spans = "", []
        for literal, field in self._pieces:
            text += literal
            if field is not None:
                spans.append(Span(len(text), len(text) + len(row[field])))
                text += row[field]
        return text, spans

    def encode(
        self, tokenizer: Any, rows: Sequence[Mapping[str, str]], max_length: int
    ) -> tuple[list[list[int]], list[int]]:
        """Token ids of each row, at most `max_length`, and how many tokens each lost.

        Exact by the characters that a fast tokenizer says a token comes from: one that is of both a column and the
        template counts as the template's. A slow tokenizer does not say; its texts lose tokens behind the special ones
        at their beginning, the template's too.

        Special tokens that stand in a column are read as plain text. Raises ValueError where the template alone is
        longer than `max_length`, and where it holds a special token of the tokenizer.
        """
        self._refuse_special(tokenizer)
        ids: list[list[int]] = []
        cut: list[int] = []
        for i in range(0, len(rows), BATCH):
            filled = [self._filled(row) for row in rows[i : i + BATCH]]
            for found, lost in _encode(tokenizer, filled, max_length):
                ids.append(found)
                cut.append(lost)
        return ids, cut

    def _refuse_special(self, tokenizer: Any) -> None:
        for token in sorted({str(token) for token in tokenizer.all_special_tokens}):
            if any(token in literal for literal, _ in self._pieces):
                raise ValueError(
                    f"dataset.labels.template: holds {token}, a special token of the tokenizer, which adds its own; "
                    "take it out"
                )


def _encode(tokenizer: Any, filled: list[tuple[str, list[Span]]], max_length: int) -> list[tuple[list[int], int]]:
    fast = bool(tokenizer.is_fast)
    read = tokenizer(
        [text for text, _ in filled],
        add_special_tokens=True,
        truncation=False,
        padding=False,
        return_offsets_mapping=fast,
        return_attention_mask=False,
        split_special_tokens=True,
        verbose=False,
    )
    made = []
    for b, (text, spans) in enumerate(filled):
        ids = [int(i) for i in read["input_ids"][b]]
        excess = len(ids) - max_length
        if excess <= 0:
            made.append((ids, 0))
            continue
        if fast:
            offsets = _with_spaces(text, tokenizer.convert_ids_to_tokens(ids), read["offset_mapping"][b])
            gone = _spare(offsets, spans, excess)
        else:
            gone = _behind_special(tokenizer, ids, excess)
        if gone is None:
            raise ValueError(
                f"dataset.max_length={max_length}: the template takes as many tokens by itself; raise it, or shorten "
                "dataset.labels.template"
            )
        made.append(([token for t, token in enumerate(ids) if t not in gone], len(gone)))
    return made


def _with_spaces(text: str, tokens: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[Span]:
    """Where each token comes from, the space that it holds before its word included."""
    spans = []
    for token, (start, stop) in zip(tokens, offsets, strict=True):
        holds_space = token.startswith(SPACES) and 0 < start < stop and not text[start].isspace()
        spans.append(Span(start - 1 if holds_space and text[start - 1].isspace() else start, stop))
    return spans


def _spare(offsets: Sequence[Span], fields: Sequence[Span], excess: int) -> set[int] | None:
    """Which tokens go: `excess` of them that lie wholly in a column, from the first on; a character of several tokens
    goes whole. None where there are too few."""
    inside = [t for t, at in enumerate(offsets) if at.start < at.stop and any(_holds(field, at) for field in fields)]
    last = fields[-1]
    kept = next((t for t in reversed(inside) if _holds(last, offsets[t])), None)
    spare = [t for t in inside if t != kept]
    if len(spare) < excess:
        return None
    count = excess
    while count < len(spare) and _goes_on(offsets[spare[count - 1]], offsets[spare[count]]):
        count += 1
    return set(spare[:count])


def _goes_on(token: Span, after: Span) -> bool:
    """Whether `after` is the rest of a character that `token` began. (Of unknown characters in a row some tokenizers
    say the same for all their bytes: these may part.)"""
    return after.start < token.stop and after.stop - after.start == 1


def _holds(field: Span, token: Span) -> bool:
    return field.start <= token.start and token.stop <= field.stop


def _behind_special(tokenizer: Any, ids: list[int], excess: int) -> set[int] | None:
    special = tokenizer.get_special_tokens_mask(ids, already_has_special_tokens=True)
    plain = [t for t, added in enumerate(special) if not added]
    return set(plain[:excess]) if len(plain) > excess else None
