"""What a verdict is made of: its parts in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kdlab.reporting.numbers import number
from kdlab.reporting.runs import Run
from kdlab.reporting.stages import Show

MARGIN = 0.01
"""A change of less than 1 % is told as such, and is neither gain nor loss."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`tone` is good, mixed, bad or open (nothing to judge yet)."""

    tone: str
    headline: str
    sentence: str


def gap_closed(before: float | None, after: float | None, teacher: float | None) -> float | None:
    """(before - after) / (before - teacher): 1 where the student caught up, negative where it fell back.

    None where a number is missing or not finite, or the student was not behind.
    """
    if before is None or after is None or teacher is None or not before > teacher:
        return None
    share = (before - after) / (before - teacher)
    return share if math.isfinite(share) else None


def changed(run: Run, metric: str) -> float | None:
    """(after - before) / |before| of a metric where lower is better; nan where after is."""
    before, after = (run.number("metrics", who, *metric.split(".")) for who in ("before", "after"))
    if before is None or after is None:
        return None
    if before == after:
        return 0.0
    if math.isinf(before):
        return -1.0 if math.isfinite(after) else math.nan
    return (after - before) / max(abs(before), 1e-12)


def moved(before: float, after: float, show: Show) -> str:
    """What became of a number, by how it is shown: "fell from 10 to 2", "stayed at 1.66"."""
    was, is_now = show(before), show(after)
    if _plain(was) == _plain(is_now):
        return f"stayed at {is_now}"
    verb = "fell" if after < before else "rose" if after > before else "went"
    return f"{verb} from {was} to {is_now}"


def three(value: float | None) -> str:
    return number(value, digits=3)


def noted(notes: list[str]) -> str:
    return f" ({', '.join(notes)})" if notes else ""


def _plain(shown: str) -> str:
    """A whole number is shown without decimals: 10 is 10.0."""
    return shown.rstrip("0").rstrip(".") if "." in shown else shown
