from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from readers import HARD, TEXTS, byte_level, spaced, stretch, word_pieces

from kdlab.models.tiny import byte_tokenizer
from kdlab.text.alignment import Stretch, align
from kdlab.text.encoding import Encoded, Encoder

ENCODERS = {
    "bytes": Encoder(byte_tokenizer(), bytes_too=True),
    "small": Encoder(byte_level(300), bytes_too=True),
    "large": Encoder(byte_level(500), bytes_too=True),
    "spaced": Encoder(spaced(), bytes_too=True),
    "pieces": Encoder(word_pieces(), bytes_too=True),
}


def read(name: str, texts: list[str], *, first: bool = True) -> Stretch:
    """Texts as one of the encoders reads them; without `first`, as rows: a text's first token is no prediction."""
    examples = []
    for encoded in ENCODERS[name].encode(texts):
        assert isinstance(encoded, Encoded)
        assert encoded.starts is not None
        assert encoded.ends is not None
        spans = list(zip(encoded.starts.tolist(), encoded.ends.tolist(), strict=True))
        examples.append(spans if first else spans[1:])
    return stretch(*examples)


def by_hand(student: list[tuple[int, int]], teacher: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans of one example, byte by byte: stretches between neighbouring common edges, whole on both sides."""
    edges, bytes_held = [], []
    for spans in ([s for s in student if s[0] >= 0], [s for s in teacher if s[0] >= 0]):
        edges.append({edge for span in spans for edge in span})
        bytes_held.append({byte for start, end in spans for byte in range(start, end)})
    common = sorted(edges[0] & edges[1])
    held = bytes_held[0] & bytes_held[1]
    return [(a, b) for a, b in pairwise(common) if set(range(a, b)) <= held]


def spans_of(side: Stretch, number_N: torch.Tensor, spans: int) -> list[tuple[int, int, int]]:
    """The example and bytes that each span's tokens cover on one side; they must follow one another."""
    found = []
    for k in range(spans):
        chosen = number_N == k
        assert chosen.any()
        (example,) = side.example_N[chosen].unique().tolist()
        starts, ends = side.start_N[chosen].tolist(), side.end_N[chosen].tolist()
        assert ends[:-1] == starts[1:]
        found.append((example, starts[0], ends[-1]))
    return found


def test_three_tokens_by_hand():
    student = stretch([(0, 2), (2, 3), (3, 7), (7, 8)], [(1, 4), (4, 5)])
    teacher = stretch([(0, 1), (1, 3), (3, 7), (7, 8)], [(0, 1), (1, 2), (2, 4)])
    ours, theirs, spans = align(student, teacher)
    assert ours.tolist() == [0, 0, 1, 2, 3, -1]
    assert theirs.tolist() == [0, 0, 1, 2, -1, 3, 3]
    assert spans == 4


def test_a_span_that_misses_a_token_at_either_end_is_none():
    student = stretch([(2, 4), (4, 6)])  # its first token is no prediction
    teacher = stretch([(0, 2), (2, 3), (3, 6)])
    assert align(student, teacher)[2] == 1
    ours, theirs, spans = align(stretch([(2, 4), (4, 6), (6, 9)]), stretch([(1, 4), (4, 5), (5, 6), (6, 7)]))
    assert (ours.tolist(), theirs.tolist(), spans) == ([-1, 0, -1], [-1, 0, 0, -1], 1)


def test_tokens_that_are_nowhere_are_in_no_span_and_a_hole_parts_nothing():
    student = stretch([(-1, -1), (0, 2), (-1, -1), (2, 3)])
    ours, theirs, spans = align(student, stretch([(0, 1), (1, 2), (2, 3), (-1, -1)]))
    assert (ours.tolist(), theirs.tolist(), spans) == ([-1, 0, -1, 1], [0, 0, 1, -1], 2)
    ours, _, spans = align(stretch([(0, 2), (4, 6)]), stretch([(0, 2), (2, 4), (4, 6)]))
    assert (ours.tolist(), spans) == ([0, 1], 2)


@pytest.mark.parametrize("student", [stretch([]), stretch([(-1, -1)])])
def test_nothing_to_align_gives_no_span(student):
    teacher = stretch([(0, 1), (1, 2)])
    ours, theirs, spans = align(student, teacher)
    assert (ours.tolist(), theirs.tolist(), spans) == ([-1] * len(student.start_N), [-1, -1], 0)


def test_places_are_not_kept_across_examples():
    ours, theirs, spans = align(stretch([(0, 3)], [(0, 3)]), stretch([(0, 3)], [(0, 1), (1, 3)]))
    assert (ours.tolist(), theirs.tolist(), spans) == ([0, 1], [0, 1, 1], 2)


PAIRS = [("bytes", "large"), ("small", "large"), ("spaced", "small"), ("large", "spaced"), ("pieces", "bytes")]


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXTS, min_size=10, max_size=10), st.sampled_from(PAIRS))
def test_a_thousand_random_texts_have_the_same_bytes_on_both_sides_of_every_span(texts, pair):
    student, teacher = (read(name, texts) for name in pair)
    ours, theirs, spans = align(student, teacher)
    found = spans_of(student, ours, spans)
    assert found == spans_of(teacher, theirs, spans)
    assert found == sorted(found)
    for example, text in enumerate(texts):
        sides = []
        for side in (student, teacher):
            chosen = side.example_N == example
            sides.append(list(zip(side.start_N[chosen].tolist(), side.end_N[chosen].tolist(), strict=True)))
        assert [(a, b) for e, a, b in found if e == example] == by_hand(*sides)
        if "pieces" not in pair:
            covered = b"".join((text.encode() + b"$")[a:b] for e, a, b in found if e == example)
            assert covered == text.encode() + b"$"


@settings(max_examples=30, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=5), st.sampled_from(sorted(ENCODERS)), st.integers(0, 30))
def test_one_tokenizer_twice_gives_one_span_a_token_wherever_it_is_cut(texts, name, kept):
    whole = read(name, texts, first=False)
    cut = Stretch(example_N=whole.example_N[:kept], start_N=whole.start_N[:kept], end_N=whole.end_N[:kept])
    ours, theirs, spans = align(cut, whole)
    there = cut.start_N >= 0
    assert spans == int(there.sum())
    assert ours[there].tolist() == list(range(spans))
    assert torch.equal(ours, theirs[: len(ours)])
    assert (theirs[len(ours) :] == -1).all()


def test_the_hard_text_by_hand():
    student, teacher = read("bytes", [HARD]), read("large", [HARD])
    ours, theirs, spans = align(student, teacher)
    tokens = len(teacher.start_N)
    assert spans == tokens
    assert theirs.tolist() == list(range(tokens))
    sizes = (teacher.end_N - teacher.start_N).tolist()
    assert ours.tolist() == np.repeat(np.arange(tokens), sizes).tolist()
    assert sum(sizes) == 32 + 1
