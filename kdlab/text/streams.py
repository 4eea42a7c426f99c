"""The bytes in which two tokenizers' readings of one document meet.

The stream of a plain text is its UTF-8 and one byte more for the token that ends it. The stream of a conversation is
the UTF-8 of each assistant turn, each with one byte more for the token that ends the turn. Templates, prompts and what
a tokenizer puts before a text are no part of it, so it is equally long for every tokenizer and template.

Shape letters: T tokens, P pieces (the parts of the tokenised text that are in the stream).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdlab.text.byte_spans import NOWHERE, ByteSpans, byte_positions
from kdlab.text.formats import Messages
from kdlab.text.turns import Said

Places = tuple[NDArray[np.int32], NDArray[np.int32]]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A tokenised text, the bytes `[begin_P, end_P)` of it that are in the stream, where these start there (`at_P`),
    where the byte for the token that ends a piece lies (`stop_P`), and which ids such a token may have."""

    text: str
    begin_P: NDArray[np.int64]
    end_P: NDArray[np.int64]
    at_P: NDArray[np.int64]
    stop_P: NDArray[np.int64]
    ends: frozenset[int]

    @classmethod
    def of_text(cls, text: str, *, ends: Collection[int]) -> Stream:
        """A plain text."""
        return cls._of(text, [Said(turn=0, begin=0, end=len(text))], [(0, len(text.encode()))], ends)

    @classmethod
    def of_target(cls, messages: Messages, turn: int, *, ends: Collection[int]) -> Stream:
        """One assistant turn of a conversation, tokenised by itself."""
        text = messages[turn]["content"]
        return cls._of(text, [Said(turn=turn, begin=0, end=len(text))], _layout(messages), ends)

    @classmethod
    def of_chat(cls, text: str, messages: Messages, said: Sequence[Said], *, ends: Collection[int]) -> Stream:
        """A conversation as `text` renders it, with the assistant turns found in it, in order."""
        return cls._of(text, said, _layout(messages), ends)

    @classmethod
    def _of(cls, text: str, said: Sequence[Said], layout: Sequence[tuple[int, int]], ends: Collection[int]) -> Stream:
        byte_of = byte_positions(text)
        return cls(
            text=text,
            begin_P=byte_of[[s.begin for s in said]].astype(np.int64),
            end_P=byte_of[[s.end for s in said]].astype(np.int64),
            at_P=np.array([layout[s.turn][0] + s.skipped for s in said], np.int64),
            stop_P=np.array([layout[s.turn][1] for s in said], np.int64),
            ends=frozenset(ends),
        )

    def places(
        self, spans: ByteSpans, ids_T: NDArray[np.int32], chars_T2: NDArray[np.int64] | None, *, special: frozenset[int]
    ) -> Places:
        """Where in the stream each token starts and ends `[T]`; -1 for one that lies outside, wholly.

        A token that covers a template's blanks and what the assistant says is clipped to the latter. `chars_T2` are
        the tokenizer's character offsets, where it gives any; EOS may have been appended since. `special` ids at either
        end that cover no character were put there by the tokenizer.
        """
        start_T, end_T = self._in_text(spans, ids_T, chars_T2, special)
        starts, ends = np.full(len(ids_T), NOWHERE, np.int32), np.full(len(ids_T), NOWHERE, np.int32)
        if not len(self.at_P):
            return starts, ends
        piece_T = np.searchsorted(self.end_P, start_T, side="right").clip(max=len(self.at_P) - 1)
        begin_T = np.maximum(start_T, self.begin_P[piece_T])
        over_T = np.minimum(end_T, self.end_P[piece_T])
        inside_T = begin_T < over_T
        shift_T = (self.at_P - self.begin_P)[piece_T]
        starts[inside_T], ends[inside_T] = (begin_T + shift_T)[inside_T], (over_T + shift_T)[inside_T]
        # The first end token behind each piece, and before the next, is what ends it.
        closers = np.flatnonzero(np.isin(ids_T, list(self.ends)) & ~inside_T)
        found_P = np.searchsorted(start_T[closers], self.end_P)
        next_P = np.append(self.begin_P[1:], np.iinfo(np.int64).max)
        for piece, found in enumerate(found_P.tolist()):
            if found < len(closers) and start_T[closers[found]] < next_P[piece]:
                starts[closers[found]], ends[closers[found]] = self.stop_P[piece], self.stop_P[piece] + 1
        return starts, ends

    def _in_text(
        self,
        spans: ByteSpans,
        ids_T: NDArray[np.int32],
        chars_T2: NDArray[np.int64] | None,
        special: frozenset[int],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where in the text's bytes each token lies; what was put before or behind it, at its edge."""
        spoken_T = ~np.isin(ids_T, list(special))
        if chars_T2 is not None:
            spoken_T[: len(chars_T2)] |= chars_T2[:, 0] < chars_T2[:, 1]
            spoken_T[len(chars_T2) :] = False
        spoken = np.flatnonzero(spoken_T)
        first, last = (int(spoken[0]), int(spoken[-1]) + 1) if len(spoken) else (0, 0)
        chars = None if chars_T2 is None else chars_T2[first:last]
        begin, over = spans.find(self.text, ids_T[first:last], chars)
        # A token without bytes keeps its place in the order: it lies where the one before it ends.
        held = np.maximum.accumulate(np.maximum(over, 0))
        begin, over = np.where(begin < 0, held, begin), np.where(over < 0, held, over)
        edge = len(self.text.encode())
        start_T, end_T = np.full(len(ids_T), edge, np.int64), np.full(len(ids_T), edge, np.int64)
        start_T[:first], end_T[:first] = 0, 0
        start_T[first:last], end_T[first:last] = begin, over
        return start_T, end_T


def _layout(messages: Messages) -> list[tuple[int, int]]:
    """Where in the stream each message's content starts and where it stops; nowhere for one that is not the
    assistant's."""
    layout, at = [], 0
    for message in messages:
        size = len(message["content"].encode()) if message["role"] == "assistant" else 0
        layout.append((at, at + size))
        at += size + 1 if message["role"] == "assistant" else 0
    return layout
