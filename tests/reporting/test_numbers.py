"""Numbers as they are shown."""

from __future__ import annotations

import math

import pytest

from kdlab.reporting.numbers import duration, number, percent, rate, size, times


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"), (0, "0"), (0.0, "0"), (7, "7"), (2048, "2,048"), (12.5, "12.50"), (2.27113, "2.271"),
        (161.84, "161.8"), (48210.4, "48,210"), (0.012345, "0.01235"), (0.00001234, "1.23e-05"), (-3.14159, "-3.142"),
        (4_780_000.0, "4.780 M"), (134_515_008, "134.5 M"), (2.5e9, "2.500 G"), (6.1e18, "6.100e+18"),
        (math.inf, "∞"), (-math.inf, "-∞"), (math.nan, "not a number"),
    ],
)  # fmt: skip
def test_number(value: float | None, shown: str) -> None:
    assert number(value).replace("\N{NO-BREAK SPACE}", " ") == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (number(2.27113, digits=3), "2.27"),
        (percent(0.2604), "26.0 %"),
        (percent(0.00012), "0.012 %"),
        (percent(0), "0.0 %"),
        (percent(-0.5), "-50.0 %"),
        (percent(None), "–"),
        (size(538_060_032), "538 MB"),
        (size(12), "12 B"),
        (size(24e9), "24.0 GB"),
        (rate(1544.2), "1,544 tokens/s"),
        (rate(None), "–"),
        (duration(0.4217), "0.422 s"),
        (duration(231.0), "3 min 51 s"),
        (duration(3 * 3600 + 300), "3 h 05 min"),
        (times(2.7146), "2.71 ×"),
    ],
)
def test_units(text: str, shown: str) -> None:
    assert text.replace("\N{NO-BREAK SPACE}", " ") == shown
