"""Where the assistant speaks in a rendered conversation.

The assistant's part of a conversation is found without trusting the template to mark it. With r(m) the rendered text
of messages m, turn i of a conversation of n turns spans the characters from the end of r(m[:i], with the generation
prompt) to the end of r(m[:i+1]); both must be a beginning of r(m[:n]), and the content must lie between them. The
tokenizer's character offsets turn spans into tokens. Where a template writes the last turn otherwise than earlier ones
(Qwen 3's empty thoughts), the content itself tells the end. Templates with `{% generation %}` are taken at their word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdlab.text.formats import Messages

Spans = list[tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Said:
    """An assistant turn in a rendered text: the message's index, the characters from `begin` to `end`, and how many
    bytes of its content come before these (a template may trim it)."""

    turn: int
    begin: int
    end: int
    skipped: int = 0


def turn_spans(messages: Messages, render: Callable[..., str]) -> tuple[str, Spans | None]:
    """The rendered conversation and the characters of each assistant turn; None where the template hides them.

    `render(messages, prompt=True)` adds the generation prompt.
    """
    text = render(messages)
    spans: Spans = []
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = render(messages[:i], prompt=True)
        start = _shared(before, text)
        headless = start == len(before) or text.startswith(render(messages[:i]))
        after = text if i + 1 == len(messages) else render(messages[: i + 1])
        end, said = _shared(after, text), message["content"].strip()
        if said not in text[start:end] and text[start:].lstrip().startswith(said):
            end = text.index(said, start) + len(said)  # a turn is written otherwise where it is the last
        if not headless or said not in text[start:end]:
            return text, None
        spans.append((start, end))
    return text, spans


def _shared(beginning: str, text: str) -> int:
    """How many characters the two begin with alike."""
    if text.startswith(beginning):
        return len(beginning)
    return next(
        (i for i, (a, b) in enumerate(zip(beginning, text, strict=False)) if a != b), min(len(beginning), len(text))
    )


def inside(starts: NDArray[np.int64], spans: Spans) -> NDArray[np.bool_]:
    """Which tokens start inside a span. One that straddles its beginning belongs to the prompt."""
    mask = np.zeros(len(starts), bool)
    for start, end in spans:
        mask |= (starts >= start) & (starts < end)
    return mask


def said_in_spans(text: str, messages: Messages, spans: Sequence[tuple[int, int]]) -> list[Said]:
    """What the assistant says in a rendered text, given the characters of each of its turns."""
    turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    return [_locate(text, messages, i, *span) for i, span in zip(turns, spans, strict=True)]


def said_in_runs(text: str, messages: Messages, runs: Sequence[tuple[int, int]]) -> list[Said]:
    """As `said_in_spans`, where a template marked the runs itself, perhaps not every turn: the last run is the last
    turn that it holds, and so on."""
    turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if len(runs) < len(turns):
        turns = [i for i in turns if messages[i]["content"].strip()]  # an empty turn is found in every run
    found = []
    for begin, end in reversed(runs):
        while turns:
            turn = turns.pop()
            if messages[turn]["content"].strip() in text[begin:end]:
                found.append(_locate(text, messages, turn, begin, end))
                break
    return found[::-1]


def _locate(text: str, messages: Messages, turn: int, begin: int, end: int) -> Said:
    """The content of a turn between two characters of the text, with its blanks where the template left them."""
    content = messages[turn]["content"]
    bare = content.strip()
    at, blanks = text.index(bare, begin, end), len(content) - len(content.lstrip()) if bare else 0
    if at >= blanks and text.startswith(content, at - blanks):
        return Said(turn=turn, begin=at - blanks, end=at - blanks + len(content))
    return Said(turn=turn, begin=at, end=at + len(bare), skipped=len(content[:blanks].encode()))
