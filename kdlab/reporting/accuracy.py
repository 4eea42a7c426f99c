"""Accuracy as a person reads it: the percentage with the counts that it comes from and its interval."""

from __future__ import annotations

from kdlab.proportions import Accuracy
from kdlab.reporting.numbers import NONE, number, percent
from kdlab.reporting.runs import Run

KEY = "generation.accuracy"
DECIDED = ("accuracy", "test.accuracy")
"""Shares of texts whose class was found: on the held-out part and on the hold-out test."""


def accuracy_of(run: Run, who: str, key: str = KEY) -> Accuracy | None:
    """How many answers of "before", "after" or "teacher" came to the reference's number, or by a `key` of `DECIDED` how
    many texts' classes were found; None where that was not measured."""
    if key in DECIDED:
        *part, _ = key.split(".")
        share, rows = (run.number("metrics", who, *part, name) for name in ("accuracy", "rows"))
        if share is None or not rows or not 0 <= share <= 1:
            return None
        found = share * rows
        # A share of other rows than were counted (a weighted one) comes from no whole number of them.
        return Accuracy(round(found), int(rows)) if abs(found - round(found)) < 0.01 else None
    correct, count = (run.number("metrics", who, *KEY.split("."), name) for name in ("correct", "count"))
    if correct is None or not count or not 0 <= correct <= count:
        return None
    return Accuracy(int(correct), int(count))


def told(accuracy: Accuracy | None, interval: tuple[float, float] | None = None, *, of: str = "") -> str:
    """12.2 % (161/1,319; 10.5–14.1): the share, the counts it comes from, the 95 % interval (Wilson's where none is
    given). `of` says more about the counts."""
    if accuracy is None:
        return NONE
    low, high = interval or accuracy.interval()
    counts = f"{number(accuracy.correct)}/{number(accuracy.count)}{of}"
    return f"{percent(accuracy.share)} ({counts}; {100 * low:.1f}–{100 * high:.1f})"


def accuracy_note(run: Run) -> str:
    """By which rules, how many answers had no number and how many references; "" where accuracy was not measured."""
    found = accuracy_of(run, "after") or accuracy_of(run, "before")
    who = "after" if accuracy_of(run, "after") else "before"
    if found is None:
        return ""
    resolved, left_out = (run.number("metrics", who, *KEY.split("."), name) for name in ("resolved", "left_out"))
    parts = [f"Accuracy by the rules {run.text('metrics', who, *KEY.split('.'), 'rules')}, with its 95 % interval"]
    if resolved is not None:
        parts.append(f"{number(found.count - resolved)} answers had no number that could be read, and count as wrong")
    if left_out:
        parts.append(f"{number(left_out)} whose reference has no number are left out")
    return "; ".join(parts) + "."
