"""Texts that are nearly the same: of their word 5-grams, four in five or more are in both.

The words are compared without case and punctuation. Candidates are found by MinHash (Broder, 1997) in bands, and each
is then compared exactly, so none is counted that is not one; one of Jaccard similarity 0.8 is missed once in 5,000.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from itertools import chain, count

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 0.8
"""Jaccard similarity |A and B| / |A or B| of two sets of shingles, from which on two texts are nearly the same."""
WORDS = 5
BANDS, BAND = 16, 4
"""A pair is a candidate where the hashes of any of `BANDS` bands, `BAND` each, agree."""
MOST = 32
"""Candidates of one text that are compared exactly, the likeliest first."""
AT_ONCE = 256
"""Texts whose hashes are taken together, so that they stay in the processor's cache."""
SEED = 20240607
FACTOR = np.uint64(0x9E3779B97F4A7C15)

# A word; a character where words are not set apart (Chinese, Japanese).
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")

Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]


class Shingled:
    """Texts as sets of word 5-grams; a shorter text is one shingle of all its words, one without words has none."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._words, self.offsets = _numbered(texts)
        self._hashes = _mixed(self._words)

    def _shingles(self, i: int) -> Hashes:
        """The shingles of a text, in its order: one may come twice."""
        words = self._hashes[self.offsets[i] : self.offsets[i + 1]]
        return _runs(words, min(WORDS, len(words))) if len(words) else words

    @cached_property
    def _signatures(self) -> Hashes:
        """The least value of each set under each of `BANDS * BAND` hashes, `[N, BANDS * BAND]`."""
        factors = np.random.default_rng(SEED).integers(1, 2**63, BANDS * BAND, dtype=np.uint64) * np.uint64(
            2
        ) + np.uint64(1)
        signatures = np.zeros((len(self.offsets) - 1, len(factors)), np.uint64)
        some = np.flatnonzero(np.diff(self.offsets) > 0)
        for start in range(0, len(some), AT_ONCE):
            part = some[start : start + AT_ONCE]
            sets = [self._shingles(i) for i in part.tolist()]
            every = np.concatenate(sets)
            starts = np.cumsum([0, *(len(found) for found in sets[:-1])])
            for k, factor in enumerate(factors):
                signatures[part, k] = np.minimum.reduceat(every * factor, starts)
        return signatures

    def near(self, a: Ints, b: Ints) -> dict[int, int]:
        """Of the texts `b` those that are nearly the same as one of the texts `a`, and which."""
        a, b = (side[np.diff(self.offsets)[side] > 0] for side in (a, b))
        found = {}
        for j, candidates in self._candidates(a, b).items():
            match = next((i for i in candidates if self.similarity(i, j) >= THRESHOLD), None)
            if match is not None:
                found[j] = match
        return found

    def similarity(self, i: int, j: int) -> float:
        """The Jaccard similarity of two texts, from 0 to 1."""
        left, right = (np.unique(self._shingles(k)) for k in (i, j))
        shared = len(np.intersect1d(left, right, assume_unique=True))
        return shared / max(len(left) + len(right) - shared, 1)

    def _candidates(self, a: Ints, b: Ints) -> dict[int, list[int]]:
        """For some of `b` the texts of `a` that a band says are alike, the likeliest first."""
        if not len(a) or not len(b):
            return {}
        pairs = np.unique(np.concatenate([self._in_band(a, b, band) for band in range(BANDS)]), axis=0)
        alike = np.zeros(len(pairs))
        for start in range(0, len(pairs), 100_000):
            part = pairs[start : start + 100_000]
            alike[start : start + len(part)] = (self._signatures[part[:, 0]] == self._signatures[part[:, 1]]).mean(1)
        candidates: dict[int, list[int]] = {}
        for p in np.lexsort((pairs[:, 0], -alike, pairs[:, 1])).tolist():
            i, j = pairs[p].tolist()
            if len(listed := candidates.setdefault(j, [])) < MOST and alike[p] > THRESHOLD / 2:
                listed.append(i)
        return candidates

    def _in_band(self, a: Ints, b: Ints, band: int) -> Ints:
        """Pairs `[P, 2]` of `a` and `b` that agree in a band; of many alike in `a`, some."""
        columns = slice(band * BAND, (band + 1) * BAND)
        key_a, key_b = (_joined(self._signatures[side, columns]) for side in (a, b))
        order = np.argsort(key_a, kind="stable")
        first = np.searchsorted(key_a[order], key_b, side="left")
        last = np.searchsorted(key_a[order], key_b, side="right")
        some = np.minimum(last - first, 2 * MOST)
        place = np.repeat(first, some) + np.arange(some.sum()) - np.repeat(np.cumsum(some) - some, some)
        return np.stack([a[order[place]], np.repeat(b, some)], axis=1)


class _Known(dict[str, tuple[int, ...]]):
    """The numbers of the words in a piece of text between blanks, found once for each piece."""

    def __init__(self) -> None:
        self._words: defaultdict[str, int] = defaultdict(count(1).__next__)

    def __missing__(self, piece: str) -> tuple[int, ...]:
        self[piece] = found = tuple(self._words[word] for word in WORD.findall(piece.lower()))
        return found


def _numbered(texts: Sequence[str]) -> tuple[Hashes, Ints]:
    """A number for every word of all texts `[W]`, and where each text begins `[N + 1]`."""
    known, found, offsets = _Known(), array("Q"), [0]
    for text in texts:
        found.extend(chain.from_iterable(map(known.__getitem__, text.split())))
        offsets.append(len(found))
    return np.array(found, np.uint64), np.array(offsets, np.int64)


def _runs(words: Hashes, width: int) -> Hashes:
    """One hash of every run of `width` words."""
    length = len(words) - width + 1
    joined = words[:length].copy()
    for k in range(1, width):
        joined *= FACTOR
        joined += words[k : k + length]
    return _mixed(joined)


def _joined(words_NW: Hashes) -> Hashes:
    """One hash of each row `[N]`."""
    joined = words_NW[:, 0].copy()
    for column in words_NW.T[1:]:
        joined *= FACTOR
        joined += column
    return joined


def _mixed(x: Hashes) -> Hashes:
    """Numbers that look random, the same for the same (splitmix64: Steele et al., 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
