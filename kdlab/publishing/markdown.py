"""Tables and names of a card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; where there are more than two columns, all but the first are numbers, set to the right."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    right = "---:" if len(head) > 2 else "---"
    return "\n".join([line(head), line(["---", *[right] * (len(head) - 1)]), *map(line, rows)])


def short(source: str) -> str:
    """Where a model is from, without the folders of the machine that it lay on."""
    kind, _, path = source.partition(" ")
    return f"the folder {'/'.join(Path(path).parts[-3:])}" if kind in ("folder", "gguf") and path else source


def short_path(thing: str) -> str:
    """A hub id as it is, of a longer path the last three folders."""
    return thing if thing.count("/") <= 1 else "/".join(Path(thing).parts[-3:])
