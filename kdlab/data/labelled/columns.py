"""Which columns of a row are read, and which tells the rows apart that belong together, where nobody says."""

from __future__ import annotations

from collections.abc import Sequence

QUESTIONS = ("context", "premise", "passage", "instruction", "prompt", "question", "query", "sentence1", "title")
"""Columns with what is asked, in the order in which they are read, before the text that is judged."""
TEXTS: tuple[str, ...] = ("text", "input", "sentence", "hypothesis", "sentence2", "response", "answer", "completion")
TEXTS += ("output", "review", "comment", "content", "utterance", "tweet")
GROUPS = ("prompt", "instruction", "question", "query", "context", "premise", "passage")
"""Columns whose value several rows may share, the most telling first."""


def default_template(columns: Sequence[str], label: str) -> str:
    """The known columns that are there, a blank line between them. Raises ValueError where none is."""
    found = [column for column in (*QUESTIONS, *TEXTS) if column in columns and column != label]
    if not found:
        raise ValueError(
            f"dataset.labels.template: none of the columns {', '.join(columns)} is known to hold the text; write which "
            "are read, such as dataset.labels.template='{" + next((c for c in columns if c != label), "text") + "}'"
        )
    return "\n\n".join("{" + column + "}" for column in found)


def default_group(columns: Sequence[str], label: str) -> str | None:
    """The prompt-like column; None: the text itself."""
    return next((column for column in GROUPS if column in columns and column != label), None)


def check_columns(asked: dict[str, str], columns: Sequence[str], *, typed: str) -> None:
    """Every column that an option asks for is there; `asked` gives the option of each. Raises ValueError with those
    that there are."""
    for column, option in asked.items():
        if column not in columns:
            raise ValueError(f"{option}: {typed} has no column {column!r}; it has {', '.join(columns)}")
