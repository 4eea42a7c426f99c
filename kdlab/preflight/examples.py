"""One example as the models read it, with what is supervised set apart: coloured, or between ⟦ and ⟧.

Shape letters: B batch, T time.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from kdlab.batch import Batch
from kdlab.preflight.findings import Piece
from kdlab.rows import IGNORE, supervised
from kdlab.text.alignment import Stretch, align
from kdlab.text.vocabulary import token_bytes

LONGEST = 160
PROMPTED = 800
"""Tokens of an example that are shown, and of one behind prompts of both sides, which stand in its middle; of a longer
one the beginning and the end."""


def pieces(batch: Batch, tokenizer: Any, *, row: int = 0, longest: int = LONGEST) -> dict[str, list[Piece]]:
    """The first example of a batch, by its parts: "text", or "source" and "target" of an encoder-decoder."""
    ids = batch.input_ids_BT[row].tolist()
    if batch.decides:
        assert batch.attention_mask_BT is not None
        seen = int(batch.attention_mask_BT[row].sum())
        return {"text": _shown([(i, False) for i in ids[:seen]], tokenizer, longest)}
    if not batch.shift:
        assert batch.attention_mask_BT is not None
        source = [i for i, seen in zip(ids, batch.attention_mask_BT[row].tolist(), strict=True) if seen]
        target = [i for i in batch.labels_BT[row].tolist() if i != IGNORE]
        return {
            "source": _shown([(i, False) for i in source], tokenizer, longest),
            "target": _shown([(i, True) for i in target], tokenizer, longest),
        }
    labels = batch.labels_BT[row].tolist()
    length = len(ids) if batch.attention_mask_BT is None else int(batch.attention_mask_BT[row].sum())
    marked = [(i, t > 0 and label != IGNORE) for t, (i, label) in enumerate(zip(ids, labels, strict=True))]
    return {"text": _shown(marked[:length], tokenizer, longest)}


def _shown(marked: list[tuple[int, bool]], tokenizer: Any, longest: int) -> list[Piece]:
    """Stretches of tokens that are all targets, or none of them, decoded; the middle of a long text left out."""
    half = longest // 2
    if len(marked) > longest:
        dropped = len(marked) - 2 * half
        begin, end = (_shown(part, tokenizer, longest) for part in (marked[:half], marked[-half:]))
        return [*begin, Piece(text=f" ... {dropped} tokens ... "), *end]
    found = []
    for target, group in groupby(marked, key=lambda pair: pair[1]):
        text = tokenizer.decode([i for i, _ in group], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        found.append(Piece(text=str(text), target=target))
    return found


def span_pieces(batch: Batch, student: Any, teacher: Any) -> tuple[list[str], list[str]] | None:
    """The supervised text of the first example as both tokenizers cut it: each span's tokens joined by `·`. None where
    the batch comes from one tokenizer, whatever the prompts."""
    if batch.teacher is None or batch.starts_BT is None:
        return None
    ours, theirs = _stretch(batch), _stretch(batch.teacher)
    span_N, span_M, spans = align(ours[0], theirs[0])
    sides = []
    for numbers, labels, tokenizer in ((span_N, ours[1], student), (span_M, theirs[1], teacher)):
        written = token_bytes(tokenizer)
        by_span: list[list[str]] = [[] for _ in range(spans)]
        for number, label in zip(numbers.tolist(), labels, strict=True):
            if number >= 0:
                found = written[label]
                name = str(tokenizer.convert_ids_to_tokens(label))
                by_span[number].append(name if found is None else found.decode(errors="backslashreplace"))
        sides.append(["·".join(tokens) for tokens in by_span])
    return sides[0], sides[1]


def _stretch(batch: Batch) -> tuple[Stretch, list[int]]:
    """Where the labels of the first example lie, and which they are."""
    assert batch.starts_BT is not None
    assert batch.ends_BT is not None
    first = batch.labels_BT[:1]
    positions_N, labels_N = supervised(first, shift=batch.shift)
    at = positions_N + 1 if batch.shift else positions_N
    place = Stretch(example_N=positions_N * 0, start_N=batch.starts_BT[0][at], end_N=batch.ends_BT[0][at])
    return place, [int(label) for label in labels_N]


def ended(batches: list[Batch], ends: set[int]) -> tuple[int, int]:
    """How many examples have a supervised token that ends a text or a turn, and how many were looked at."""
    with_end = total = 0
    for batch in batches:
        for labels in batch.labels_BT.tolist():
            targets = {label for label in labels if label != IGNORE}
            total += bool(targets)
            with_end += bool(targets & ends)
    return with_end, total
