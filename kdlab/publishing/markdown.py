"""Tables and names of a card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdlab.publishing.private import shortened


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; where there are more than two columns, all but the first are numbers, set to the right."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    right = "---:" if len(head) > 2 else "---"
    return "\n".join([line(head), line(["---", *[right] * (len(head) - 1)]), *map(line, rows)])


def short(source: str) -> str:
    """Where a model is from, without the folders of the machine that it lay on."""
    kind, _, path = source.partition(" ")
    return f"the folder {short_path(path)}" if kind in ("folder", "gguf") and path else shortened(source)


def short_path(thing: str) -> str:
    """A hub id or a URL as it is, of a longer path its end."""
    shorter = shortened(thing)
    return shorter if shorter != thing or thing.count("/") <= 1 or "://" in thing else "/".join(Path(thing).parts[-3:])
