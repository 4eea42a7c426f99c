"""Rows with labels, and files of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def rated(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    """Two responses to each of `count` prompts, rated from 0 to 4: every rating comes up equally often."""
    return [
        {"prompt": f"Question {i} about subject {i * i}?", "response": f"Answer {2 * i + j} says {i}.", "rating": k % 5}
        for i in range(start, start + count)
        for j, k in enumerate((2 * i, 2 * i + 1))
    ]


def write(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)
