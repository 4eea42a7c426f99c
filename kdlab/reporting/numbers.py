"""Numbers as a person reads them: three or four significant digits, a unit, and a dash where there is none."""

from __future__ import annotations

import math

NONE = "–"
"""Shown where a run has no such number."""

_NBSP = "\N{NO-BREAK SPACE}"
_LARGE = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


def number(value: float | None, *, digits: int = 4) -> str:
    """`value` with `digits` significant digits: 0.01234, 12.35, 48,210, 4.802 M, 1.2e-05; whole numbers stay whole."""
    if value is None:
        return NONE
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if size >= 1e15:
        return f"{value:.{digits - 1}e}"
    for unit, letter in _LARGE:
        if size >= unit:
            return f"{_significant(value / unit, digits)}{_NBSP}{letter}"
    if isinstance(value, int) or value.is_integer():
        return f"{int(value):,}"
    if size < 1e-3:
        return f"{value:.{max(digits - 2, 0)}e}"
    return _significant(value, digits)


def percent(share: float | None) -> str:
    """A share of 1 as a percentage: 0.2604 -> 26.0 %, 0.00012 -> 0.012 %."""
    if share is None or not math.isfinite(share):
        return number(share)
    value = 100 * share
    decimals = 1 if value == 0 or abs(value) >= 0.1 else 3
    return f"{value:.{decimals}f}{_NBSP}%"


def points(score: float | None) -> str:
    """A score from 0 to 100: 23.4."""
    return number(score) if score is None or not math.isfinite(score) else f"{score:.1f}"


def chance(p: float | None) -> str:
    """A p-value: p = 0.023, p < 0.001."""
    if p is None or not math.isfinite(p):
        return f"p {NONE}"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def size(count: float | None) -> str:
    """Bytes in decimal units: 538 MB."""
    if count is None:
        return NONE
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{_significant(count / unit, 3)}{_NBSP}{name}"
    return f"{int(count)}{_NBSP}B"


def rate(tokens_per_second: float | None) -> str:
    """Speed: 1,234 tokens/s."""
    if tokens_per_second is None:
        return NONE
    return f"{number(tokens_per_second, digits=3)}{_NBSP}tokens/s"


def milliseconds(value: float | None) -> str:
    """A latency: 12.3 ms."""
    return NONE if value is None else f"{number(value, digits=3)}{_NBSP}ms"


def duration(seconds: float | None) -> str:
    """Seconds as 0.42 s, 12.3 s, 4 min 12 s or 3 h 05 min."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{_significant(seconds, 3)}{_NBSP}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}{_NBSP}min{_NBSP}{whole % 60:02d}{_NBSP}s"
    return f"{whole // 3600}{_NBSP}h{_NBSP}{whole % 3600 // 60:02d}{_NBSP}min"


def times(ratio: float | None) -> str:
    """A ratio: 2.71 x."""
    return NONE if ratio is None else f"{number(ratio, digits=3)}{_NBSP}×"


def _significant(value: float, digits: int) -> str:
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"
