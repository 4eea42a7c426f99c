"""metrics.csv: one row a training step and one a held-out evaluation, appended as they happen.

A run that continues from the checkpoint of step s drops the rows after s and writes them again. Floats are written so
that they read back bit for bit; only `CLOCK` columns differ between two runs of the same command.
"""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import Mapping
from pathlib import Path

from kdlab.durable import write_atomically

COLUMNS = (
    "step",
    "epoch",
    "phase",
    "loss",
    "divergence",
    "hard",
    "hidden",
    "attention",
    "relation",
    "learning_rate",
    "gradient_norm",
    "rows",
    "tokens",
    "nll",
    "perplexity",
    "kl",
    "top1_agreement",
    "bits_per_byte",
    "accuracy",
    "macro_f1",
    "rmse",
    "seconds",
    "tokens_per_second",
)
CLOCK = ("seconds", "tokens_per_second")

Value = float | int | str | None


class MetricsFile:
    """The rows of `path` up to and including `step`, and those added since. `step=-1` begins again."""

    def __init__(self, path: Path, *, step: int) -> None:
        kept = [_line(COLUMNS), *(line for line in _lines(path) if _step(line) <= step)]
        write_atomically(path, lambda file: file.write("".join(kept).encode()))
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def write(self, row: Mapping[str, Value]) -> None:
        """Append a row; columns that do not apply stay empty."""
        assert set(row) <= set(COLUMNS), set(row) - set(COLUMNS)
        line = _line([_text(row.get(column)) for column in COLUMNS]).encode()
        if os.write(self._file, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def rows(self) -> list[dict[str, Value]]:
        """What the file holds, without empty columns."""
        rows = []
        for line in _lines(self.path):
            told = zip(COLUMNS, next(csv.reader([line])), strict=True)
            rows.append({column: _value(column, text) for column, text in told if text})
        return rows

    def sync(self) -> None:
        """Force the rows to the disk: before a checkpoint that counts on them."""
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def _lines(path: Path) -> list[str]:
    """The whole lines of an earlier file, without its header and without a line that a kill cut short."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines(keepends=True)[1:] if line.endswith("\n") and _step(line) >= 0]


def _step(line: str) -> int:
    """The step of a line, -1 where it is no row."""
    cells = next(csv.reader([line]), [])
    return int(cells[0]) if len(cells) == len(COLUMNS) and cells[0].isdigit() else -1


def _value(column: str, text: str) -> Value:
    if column == "phase":
        return text
    return int(text) if column == "step" else float(text)


def _text(value: Value) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def _line(cells: list[str] | tuple[str, ...]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
