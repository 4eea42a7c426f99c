"""The table that `kdlab export` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HEADS: tuple[str, ...] = ("", "disk MB", "memory MB", "accuracy", "macro F1", "RMSE", "agreement", "KL", "p50 ms")
HEADS += ("p95 ms", "x torch", "rows/s")


def table(content: dict[str, Any]) -> str:
    """One line a variant, the original first, and below what was measured on, and why a variant is not good."""
    entries = content["variants"]
    lines = _aligned([HEADS, *map(_cells, entries)])
    rows = f"on {content['rows']}, " if content["rows"] else ""
    told = [
        f"{rows}{content['threads']} thread{'s' * (content['threads'] != 1)}; x torch: how many times as fast as "
        "PyTorch (float32) answers one row, both timed in turn; rows/s: in batches",
    ]
    if any(entry.get("rmse") is not None for entry in entries):
        told.append("agreement: R² of a variant's numbers for the original's")
    for entry in entries:
        where = entry["folder"] if entry["status"] == "good" else entry["reason"]
        note = f" ({entry['note']})" if entry["note"] else ""
        told.append(f"{entry['name']}: {entry['status']}: {where}{note}")
    return "\n".join([*lines, *told])


def _cells(entry: dict[str, Any]) -> tuple[str, ...]:
    latency = entry["latency"]
    return (
        entry["name"],
        _number(entry["disk_bytes"], ".1f", 1e-6),
        _number(entry["memory_bytes"], ".0f", 1e-6),
        _number(entry["accuracy"], ".2%"),
        _number(entry["macro_f1"], ".4f"),
        _number(entry.get("rmse"), ".4g"),
        _number(entry["agreement"], ".2%"),
        _number(entry["kl"], ".4g"),
        _number(latency["p50_ms"], ".2f"),
        _number(latency["p95_ms"], ".2f"),
        _number(entry["faster_than_torch"], ".2f"),
        _number(entry["examples_per_second"], ",.1f"),
    )


def _number(value: float | None, form: str, scale: float = 1.0) -> str:
    return "-" if value is None else f"{value * scale:{form}}"


def _aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    shown = [i for i in range(len(HEADS)) if i == 0 or any(line[i] != "-" for line in lines[1:])]
    widths = {i: max(len(line[i]) for line in lines) for i in shown}
    told = []
    for line in lines:
        name, *cells = (line[i] for i in shown)
        right = (cell.rjust(widths[i]) for i, cell in zip(shown[1:], cells, strict=True))
        told.append("  ".join([name.ljust(widths[0]), *right]).rstrip())
    return told
