"""Findings on the screen: coloured on a terminal, plain words elsewhere."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console
from rich.text import Text

from kdlab.preflight.findings import COLOURS, MARKS, Findings, Line, plain

WORDS = {
    "ok": "this run would fit and work",
    "warning": "this run would fit and work; see the warnings",
    "unknown": "not everything could be checked",
    "failure": "this run would fail",
}


def print_findings(findings: Findings, file: TextIO | None = None) -> None:
    """Every section, a mark before each line; the remedy and the example below theirs; the verdict last."""
    console = Console(file=file, soft_wrap=True, highlight=False)
    for section in findings.sections:
        console.print(Text(section.title, style="bold"))
        for line in section.lines:
            console.print(_line(line))
            if line.remedy:
                console.print(Text(f"       remedy: {line.remedy}", style="cyan"))
            if line.example:
                console.print(_example(line, coloured=console.is_terminal))
    console.print(Text(f"{findings.name}: {WORDS[findings.verdict]}", style=COLOURS[findings.verdict]))


def _line(line: Line) -> Text:
    return Text.assemble("  ", (f"{MARKS[line.verdict]:<4}", COLOURS[line.verdict]), " ", line.text)


def _example(line: Line, *, coloured: bool) -> Text:
    """The text of an example, indented, its targets in green or between brackets."""
    shown = Text()
    if coloured:
        for piece in line.example:
            shown.append(piece.text, style="bold green" if piece.target else "dim")
    else:
        shown.append(plain(line.example))
    return Text("\n").join(Text("       ") + part for part in shown.split("\n", allow_blank=True))
