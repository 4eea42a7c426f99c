"""What a check has found: lines with a verdict each, in sections; and the numbers behind them, for machines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 1
MARKS = {"ok": "ok", "note": "--", "warning": "warn", "unknown": "??", "failure": "FAIL"}
"""A verdict, and how it is written before its line. A run fails, or nobody knows, for the last two."""
COLOURS = {"ok": "green", "note": "dim", "warning": "yellow", "unknown": "magenta", "failure": "bold red"}
GIB, MIB = 2**30, 2**20


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some of an example: its text, and whether its tokens are targets."""

    text: str
    target: bool = False


def plain(shown: Iterable[Piece]) -> str:
    """Pieces as text, targets between ⟦ and ⟧."""
    return "".join(f"⟦{piece.text}⟧" if piece.target else piece.text for piece in shown)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One finding. `remedy` is what to type instead, where something is to be done; `example` a text that follows."""

    verdict: str
    text: str
    remedy: str | None = None
    example: tuple[Piece, ...] = ()

    def __post_init__(self) -> None:
        assert self.verdict in MARKS, self.verdict


@dataclass(kw_only=True)
class Section:
    """Findings about one thing."""

    title: str
    lines: list[Line] = field(default_factory=list)

    def say(self, verdict: str, text: str, remedy: str | None = None) -> None:
        self.lines.append(Line(verdict=verdict, text=text, remedy=remedy))

    def show(self, text: str, example: Iterable[Piece]) -> None:
        """A line with an example below it."""
        self.lines.append(Line(verdict="note", text=text, example=tuple(example)))


@dataclass(kw_only=True)
class Findings:
    """All of a check. `numbers` holds what was predicted, as plain values, by section."""

    name: str
    overrides: list[str]
    sections: list[Section] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)

    def section(self, title: str) -> Section:
        """A new section at the end."""
        self.sections.append(Section(title=title))
        return self.sections[-1]

    def lines(self, *verdicts: str) -> list[Line]:
        return [line for section in self.sections for line in section.lines if line.verdict in verdicts]

    @property
    def verdict(self) -> str:
        """The worst of all: "failure", "unknown" (something could not be checked), "warning" or "ok"."""
        return next((worst for worst in ("failure", "unknown", "warning") if self.lines(worst)), "ok")

    @property
    def status(self) -> int:
        """The exit status: 1 where the run would fail, or where that could not be found out."""
        return 1 if self.verdict in ("failure", "unknown") else 0

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: schema 1; `numbers` has memory, time, disk, models, data, tokenizers and benchmarks, as far
        as known."""
        sections = [
            {"title": section.title, "lines": [_as_dict(line) for line in section.lines]} for section in self.sections
        ]
        return {
            "schema": SCHEMA,
            "name": self.name,
            "overrides": self.overrides,
            "verdict": self.verdict,
            "sections": sections,
            **self.numbers,
        }


def _as_dict(line: Line) -> dict[str, Any]:
    found = {"verdict": line.verdict, "text": line.text, "remedy": line.remedy}
    return {**found, "example": plain(line.example)} if line.example else found


def size(count: float) -> str:
    """Bytes for people: `1.3 GiB`."""
    if count >= GIB:
        return f"{count / GIB:,.2f} GiB"
    return f"{count / MIB:,.1f} MiB" if count >= MIB / 10 else f"{count / 1024:,.1f} KiB"


def span(seconds: float) -> str:
    """A stretch of time for people."""
    if seconds >= 5400:
        return f"{seconds / 3600:,.1f} hours"
    if seconds >= 90:
        return f"{seconds / 60:,.1f} minutes"
    return f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def count(number: float) -> str:
    """A number for people: `134.5 M`."""
    for unit, name in ((1e9, "B"), (1e6, "M")):
        if number >= unit:
            return f"{number / unit:,.1f} {name}"
    return f"{number:,.0f}"
