"""Where each token lies in the bytes of a text.

Exact where the tokens spell the text: their strings, read as bytes and put together, are the text's UTF-8 (byte-level
BPE; SentencePiece with byte fallback, but for a space it puts in front). A character that several tokens share is then
told apart to the byte. Where a tokenizer rewrites the text (lower case, NFKC, a space before every part, unknown
characters), its character offsets say which tokens belong together, and each such group is looked at by itself: exact
where it spells its bytes; a token alone has the whole range; several tokens that share characters without spelling
their bytes are nowhere, since no one can say which of them covers what. Bytes that no offset covers (blanks that are
trimmed or dropped) belong to the token behind them.

Shape letters: T tokens, U bytes of the text, W bytes that the tokens spell, G groups.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdlab.text.vocabulary import spelling, spelt

Ints = NDArray[np.int64]
Range = tuple[Ints, Ints]
NOWHERE = -1
SPACE = 0x20


class ByteSpans:
    """Finds the byte ranges of one tokenizer's tokens."""

    def __init__(self, tokenizer: Any) -> None:
        table = spelt(tokenizer)
        self.name = type(tokenizer).__name__
        self.exact = spelling(tokenizer) in ("bytes", "spaces")
        self.bytes_W = np.frombuffer(b"".join(table), np.uint8)
        self.length_V = np.array([len(b) for b in table], np.int64)
        self.begin_V = np.concatenate([[0], self.length_V.cumsum()[:-1]]) if table else self.length_V

    def find(self, text: str, ids_T: NDArray[np.int32], chars_T2: Ints | None) -> Range:
        """Where each token starts and ends in the UTF-8 of `text` `[T]`, -1 for one without bytes.

        `chars_T2` are the tokenizer's character offsets. Raises ValueError where it gives none and they are needed.
        """
        raw_U = np.frombuffer(text.encode(), np.uint8)
        whole = self._spelt(raw_U, ids_T) if self.exact else None
        if whole is None and chars_T2 is None:
            raise ValueError(
                f"{self.name} gives no character offsets and rewrites the text, so its tokens cannot be aligned with "
                "another tokenizer's; use a fast tokenizer"
            )
        start_T, end_T = whole if whole is not None else self._by_characters(text, raw_U, ids_T, chars_T2)
        empty = start_T >= end_T
        return np.where(empty, NOWHERE, start_T), np.where(empty, NOWHERE, end_T)

    def _spelt(self, raw_U: NDArray[np.uint8], ids_T: NDArray[np.int32]) -> Range | None:
        """The ranges where all tokens together spell the text, or a space and the text; else None."""
        lengths_T = self.length_V[ids_T]
        extra = int(lengths_T.sum()) - len(raw_U)
        if extra not in (0, 1):
            return None
        spelt_W = self._gather(ids_T, lengths_T)
        if not np.array_equal(spelt_W[extra:], raw_U) or (extra and spelt_W[0] != SPACE):
            return None
        end_T = lengths_T.cumsum() - extra
        return np.maximum(end_T - lengths_T, 0), end_T

    def _gather(self, ids_T: NDArray[np.int32], lengths_T: Ints) -> NDArray[np.uint8]:
        """The bytes of all tokens, one after another."""
        return self.bytes_W[np.repeat(self.begin_V[ids_T], lengths_T) + _counted(lengths_T)]

    def _by_characters(
        self, text: str, raw_U: NDArray[np.uint8], ids_T: NDArray[np.int32], chars_T2: Ints | None
    ) -> Range:
        assert chars_T2 is not None
        if not len(ids_T):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        start_T, end_T = byte_positions(text)[chars_T2].T
        end_T = np.maximum.accumulate(end_T)
        first_T = np.concatenate([[True], start_T[1:] >= end_T[:-1]])  # shares no character with those before it
        group_T = first_T.cumsum() - 1
        begins = np.flatnonzero(first_T)
        members_G = np.diff(np.append(begins, len(ids_T)))
        end_G = end_T[begins + members_G - 1]
        start_G = np.concatenate([[0], end_G[:-1]])

        lengths_T = self.length_V[ids_T]
        spelt_T = lengths_T.cumsum()
        before_G = (spelt_T - lengths_T)[begins]
        extra_G = np.add.reduceat(lengths_T, begins) - (end_G - start_G)
        # Where each token would lie if its group spelt its bytes, perhaps with a space put in front.
        right_T = start_G[group_T] + spelt_T - before_G[group_T] - extra_G[group_T]
        left_T = right_T - lengths_T
        exact_G = np.isin(extra_G, (0, 1)) & ~self._misspelt(raw_U, ids_T, left_T, extra_G, group_T, start_G)

        start_T = np.where(exact_G[group_T], np.maximum(left_T, start_G[group_T]), start_G[group_T])
        end_T = np.where(exact_G[group_T], right_T, end_G[group_T])
        nowhere_T = ~exact_G[group_T] & (members_G[group_T] > 1)
        return start_T, np.where(nowhere_T, start_T, end_T)

    def _misspelt(
        self,
        raw_U: NDArray[np.uint8],
        ids_T: NDArray[np.int32],
        left_T: Ints,
        extra_G: Ints,
        group_T: Ints,
        start_G: Ints,
    ) -> NDArray[np.bool_]:
        """Whether any byte of a group differs from the text's `[G]`, where the group has the right length."""
        if not self.exact:
            return np.ones(len(start_G), np.bool_)
        lengths_T = self.length_V[ids_T]
        group_W = np.repeat(group_T, lengths_T)
        at_W = np.repeat(left_T, lengths_T) + _counted(lengths_T)
        inside_W = (at_W >= start_G[group_W]) & (at_W < len(raw_U)) & (at_W >= 0)
        wanted_W = np.full(len(at_W), SPACE, np.uint8)  # what a group spells before its range is the space in front
        wanted_W[inside_W] = raw_U[at_W[inside_W]]
        wrong_W = self._gather(ids_T, lengths_T) != wanted_W
        return np.bincount(group_W[wrong_W], minlength=len(start_G)) > 0


def byte_positions(text: str) -> Ints:
    """The byte at which each character of a text starts in its UTF-8, and the end `[characters + 1]`."""
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    widths = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    return np.concatenate([[0], widths.cumsum()])


def _counted(lengths: Ints) -> Ints:
    """0, 1, ... up to each length, one after another."""
    ends = lengths.cumsum()
    return np.arange(int(lengths.sum())) - np.repeat(ends - lengths, lengths)
