from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from readers import HARD, TEXTS, byte_level, rewriting, spaced, word_pieces

from kdlab.models.tiny import byte_tokenizer
from kdlab.text.byte_spans import ByteSpans, byte_positions
from kdlab.text.vocabulary import spelt

EXACT = {"bytes": byte_tokenizer(), "byte_level": byte_level(), "spaced": spaced()}
ROUGH = {"nfc": byte_level(nfc=True), "unknown": spaced(fallback=False), "nfkc": rewriting(), "pieces": word_pieces()}


READERS = {id(tokenizer): ByteSpans(tokenizer) for tokenizer in (*EXACT.values(), *ROUGH.values())}
TABLES = {name: spelt(tokenizer) for name, tokenizer in EXACT.items()}


def find(tokenizer, text: str, *, offsets: bool = True):
    """The ids of a text, and where they start and end in its bytes."""
    made = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = np.array(made["input_ids"], np.int32)
    chars = np.array(made["offset_mapping"], np.int64).reshape(-1, 2)
    return ids, *READERS[id(tokenizer)].find(text, ids, chars if offsets else None)


def tiles(starts, ends, size: int) -> bool:
    """Whether the ranges that there are follow one another from 0 to the size without gap or overlap."""
    there = starts >= 0
    edges = [0, *ends[there].tolist()]
    return starts[there].tolist() == edges[:-1] and edges[-1] == size


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXTS, min_size=10, max_size=10))
def test_a_thousand_random_texts_are_tiled_and_come_back_byte_by_byte(texts):
    for name, tokenizer in EXACT.items():
        table = TABLES[name]
        for text in texts:
            raw = text.encode()
            ids, starts, ends = find(tokenizer, text)
            assert tiles(starts, ends, len(raw)), name
            if "▁" in text and name == "spaced":
                continue  # it reads "▁" as a blank: the ranges are right, the bytes are not the text's
            for token, start, end in zip(ids.tolist(), starts.tolist(), ends.tolist(), strict=True):
                assert start < 0 or table[token].endswith(raw[start:end])
            assert b"".join(raw[s:e] for s, e in zip(starts, ends, strict=True) if s >= 0) == raw


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_where_the_text_is_rewritten_ranges_rise_and_never_overlap(text):
    size = len(text.encode())
    for name, tokenizer in ROUGH.items():
        _, starts, ends = find(tokenizer, text)
        there = starts >= 0
        assert ((starts < ends) & (ends <= size))[there].all(), name
        assert (ends[there][:-1] <= starts[there][1:]).all(), name
        characters = set(byte_positions(text).tolist())
        if name in ("nfkc", "pieces"):  # nothing is told below a character
            assert set(starts[there].tolist()) | set(ends[there].tolist()) <= characters


@pytest.mark.parametrize("name", EXACT)
def test_every_character_of_the_hard_text_by_hand(name):
    raw = HARD.encode()
    assert len(raw) == 32
    ids, starts, ends = find(EXACT[name], HARD)
    assert tiles(starts, ends, 32)
    assert b"".join(TABLES[name][i] for i in ids).removeprefix(b" " if name == "spaced" else b"") == raw
    if name == "bytes":
        assert starts.tolist() == list(range(32))
    cut = set(starts.tolist()) - set(byte_positions(HARD).tolist()) - {-1}
    assert cut, "some character is cut between its bytes"


def test_a_byte_level_character_is_told_apart_to_the_byte():
    _, starts, ends = find(EXACT["bytes"], "a漢")
    assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_the_blank_put_in_front_is_nowhere():
    _, starts, ends = find(EXACT["spaced"], "漢x")  # ▁ <bytes of 漢> x, or their longest pieces
    assert (starts[0], ends[0]) == (-1, -1) or starts[0] == 0
    assert tiles(starts, ends, 4)


def test_a_tokenizer_that_composes_characters_is_still_exact_around_them():
    text = "cafe\u0301 über  漢 done"
    raw = text.encode()
    tokenizer = ROUGH["nfc"]
    ids, starts, ends = find(tokenizer, text)
    table = spelt(tokenizer)
    after = raw.index("über".encode()) - 1
    for token, start, end in zip(ids.tolist(), starts.tolist(), ends.tolist(), strict=True):
        if start >= after:
            assert raw[start:end] == table[token]
    assert ends.max() == len(raw)


def test_a_character_of_several_tokens_that_spell_something_else_is_nowhere():
    class Fixed:
        """Its offsets are made up."""

        is_fast = False
        added_tokens_decoder = MappingProxyType({})

        def get_vocab(self):
            return {"x": 0, "y": 1, "z": 2, "a": 3}

    chars = np.array([[0, 1], [1, 2], [1, 2], [2, 3]])
    starts, ends = ByteSpans(Fixed()).find("a漢a", np.array([3, 0, 1, 3], np.int32), chars)
    assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == [(0, 1), (-1, -1), (-1, -1), (4, 5)]
    starts, ends = ByteSpans(Fixed()).find("a漢", np.array([3, 0], np.int32), chars[:2])
    assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == [(0, 1), (1, 4)]


def test_dropped_blanks_belong_to_the_word_behind_them():
    _, starts, ends = find(ROUGH["pieces"], "The  world ")
    assert starts[0] == 0
    words = {int(e) for e in ends}
    assert {3, 10} <= words
    assert tiles(starts, ends, 10)


def test_without_offsets_it_is_exact_or_refused():
    _, starts, ends = find(EXACT["byte_level"], HARD, offsets=False)
    assert tiles(starts, ends, 32)
    with pytest.raises(ValueError, match="gives no character offsets and rewrites"):
        find(ROUGH["nfkc"], "½", offsets=False)


def test_nothing_has_no_ranges():
    for tokenizer in (*EXACT.values(), *ROUGH.values()):
        ids, starts, ends = find(tokenizer, "")
        assert (ids.size, starts.size, ends.size) == (0, 0, 0)
