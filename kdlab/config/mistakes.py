"""How a mistake in the options is said: one message, at most six lines, with the option as typed and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

WIDTH = 110


class ConfigError(ValueError):
    """A mistake in the options; `str(error)` is all that the user needs to read."""


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """Up to three of `known` that look like `word`, the likeliest first."""
    names = sorted(known)
    found = difflib.get_close_matches(word.lower(), names, n=3, cutoff=0.55)
    return found or [name for name in names if len(word) >= 3 and word.lower() in name][:3]


def suggestion(word: str, known: Iterable[str], *, what: str) -> str:
    """`Did you mean ...?`, and what there is: cut to two lines."""
    names = sorted(known)
    near = nearest(word, names)
    guess = f"Did you mean {' or '.join(near)}?\n" if near else ""
    return f"{guess}{what}: {listing(names)}"


def listing(names: Iterable[str], *, width: int = 2 * WIDTH) -> str:
    """`a, b, c`, cut at `width` characters with a count of the rest."""
    names = list(names)
    shown: list[str] = []
    for name in names:
        if sum(len(s) + 2 for s in shown) + len(name) > width:
            return f"{', '.join(shown)} and {len(names) - len(shown)} more"
        shown.append(name)
    return ", ".join(shown)
