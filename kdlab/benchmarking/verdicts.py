"""What a judgement says: a rating from 1 to 10, or which of two answers is better. Importable without torch.

    rating("... Rating: [[7.5]]")   # 7.5
    verdict("... [[B]]")            # "B"

The patterns are those of FastChat's llm_judge (Zheng et al., 2023).
"""

from __future__ import annotations

import re

RATING = re.compile(r"\[\[(\d+\.?\d*)\]\]")
SECOND = re.compile(r"\[(\d+\.?\d*)\]")
"""Tried where the first finds nothing."""
LOWEST, HIGHEST = 1.0, 10.0
VERDICTS = ("A", "B", "C")


def rating(judgement: str) -> float | None:
    """The first [[rating]], else the first [rating]; None where there is none, or it is not from 1 to 10."""
    found = RATING.search(judgement) or SECOND.search(judgement)
    value = float(found[1]) if found else 0.0
    return value if LOWEST <= value <= HIGHEST else None


def verdict(judgement: str) -> str | None:
    """ "A", "B" or "C" (a tie), by [[A]], [[B]] or [[C]]; None where there is none, or more than one. (FastChat takes A
    where both A and B are named, which favours what stands first.)"""
    found = [letter for letter in VERDICTS if f"[[{letter}]]" in judgement]
    return found[0] if len(found) == 1 else None


def winner(first: str, swapped: str) -> str:
    """Which of two answers won: "first" stands as A in the judgement `first`, and as B in `swapped`. Only where both
    orders agree is it "first" or "second"; all else is a "tie"."""
    if (first, swapped) == ("A", "B"):
        return "first"
    return "second" if (first, swapped) == ("B", "A") else "tie"


def same(first: str, swapped: str) -> bool:
    """Whether both orders say the same of the two answers; where not, it is the order that decided."""
    return {"A": "B", "B": "A", "C": "C"}[first] == swapped
