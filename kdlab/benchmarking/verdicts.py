"""What a judgement says: a rating from 1 to 10, or which of two answers is better. Importable without torch.

    rating("... Rating: [[7.5]]")   # 7.5
    verdict("... [[B]]")            # "B"

The patterns are those of FastChat's llm_judge (Zheng et al., 2023), with room for blanks between the brackets. What a
judge thinks aloud before it judges is not read: it weighs ratings that it does not give. A judgement that speaks of
such tags is no thinking.
"""

from __future__ import annotations

import re
from collections.abc import Callable

RATING = re.compile(r"\[\[\s*(\d+\.?\d*)\s*\]\]")
SECOND = re.compile(r"\[\s*(\d+\.?\d*)\s*\]")
"""Tried where the first finds nothing."""
THINKS, THOUGHT = "<think>", "</think>"
"""Around what a model thinks aloud; the first may stand in its prompt."""
LOWEST, HIGHEST = 1.0, 10.0
VERDICTS = ("A", "B", "C")


def rating(judgement: str) -> float | None:
    """The first [[rating]], else the first [rating]; None where there is none, or it is not from 1 to 10."""
    found = _rated(_judged(judgement, _rated))
    value = float(found[1]) if found else 0.0
    return value if LOWEST <= value <= HIGHEST else None


def verdict(judgement: str) -> str | None:
    """ "A", "B" or "C" (a tie), by [[A]], [[B]] or [[C]]; None where there is none, or more than one. (FastChat takes A
    where both A and B are named, which favours what stands first.)"""
    found = _named(_judged(judgement, _named))
    return found[0] if len(found) == 1 else None


def _rated(said: str) -> re.Match[str] | None:
    return RATING.search(said) or SECOND.search(said)


def _named(said: str) -> list[str]:
    return [letter for letter in VERDICTS if re.search(rf"\[\[\s*{letter}\s*\]\]", said)]


def _judged(judgement: str, find: Callable[[str], object]) -> str:
    """What is said after the thinking that begins it; nothing where that never ended. Where the tag that begins it
    stood in the prompt, all after the one that ends it, if `find` finds something there."""
    said = judgement.strip()
    if not said.startswith(THINKS):
        last = said.rpartition(THOUGHT)[2]
        return last if find(last) else said
    while said.startswith(THINKS):
        said = said.partition(THOUGHT)[2].strip()
    return said


def winner(first: str, swapped: str) -> str:
    """Which of two answers won: "first" stands as A in the judgement `first`, and as B in `swapped`. Only where both
    orders agree is it "first" or "second"; all else is a "tie"."""
    if (first, swapped) == ("A", "B"):
        return "first"
    return "second" if (first, swapped) == ("B", "A") else "tie"


def same(first: str, swapped: str) -> bool:
    """Whether both orders say the same of the two answers; where not, it is the order that decided."""
    return {"A": "B", "B": "A", "C": "C"}[first] == swapped
