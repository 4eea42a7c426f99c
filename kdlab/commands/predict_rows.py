"""The texts that `kdlab predict --file` is given: of a file or a pipe, as rows with columns or as one text a line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from kdlab.data.files import read_rows
from kdlab.models.progress import say

STDIN = "-"
JSON_LINES = (".jsonl", ".ndjson")
TABLES = (".csv", ".tsv", ".parquet", ".json")


def read_file(typed: str) -> list[str] | list[dict[str, Any]]:
    """The texts of a file, or of standard input where `typed` is "-": rows of .csv, .tsv, .parquet, .json and .jsonl,
    else one text a line. Where no ending tells (a pipe), lines that all begin with a brace are JSON.

    Raises FileNotFoundError and ValueError, naming --file, for what is not there, cannot be read or holds no text.
    """
    name, file = f"--file {typed}", Path(typed).expanduser()
    if typed != STDIN and not file.exists():
        raise FileNotFoundError(f"{name}: no such file")
    if file.is_dir():
        raise ValueError(f"{name}: a folder; give a file")
    try:
        rows = _read(file, typed, name)
    except OSError as error:
        raise ValueError(f"{name}: cannot be read ({error.strerror})") from error
    if not rows:
        raise ValueError(f"{name}: holds no text")
    return rows


def _read(file: Path, typed: str, name: str) -> list[str] | list[dict[str, Any]]:
    suffix = file.suffix.lower()
    if suffix in TABLES:
        return list(read_rows(file, option="--file"))
    lines = _lines(sys.stdin.buffer.read() if typed == STDIN else file.read_bytes(), name)
    braces = bool(lines) and all(line.lstrip().startswith("{") for _, line in lines)
    if suffix in JSON_LINES or (not suffix and braces):
        return _objects(lines, name)
    return [line for _, line in lines]


def _lines(raw: bytes, name: str) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers. They end at "\\n" only: text may hold U+2028 and its kin."""
    try:
        lines = raw.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        number = raw[: error.start].count(b"\n") + 1
        raise ValueError(f"{name}: line {number} is not UTF-8; convert it first") from error
    if not lines[-1]:
        lines.pop()  # what stands behind the last line's end
    numbered = [(number, line.removesuffix("\r")) for number, line in enumerate(lines, start=1) if line.strip()]
    if numbered and len(numbered) < len(lines):
        say(f"{name}: blank lines left out: {len(lines) - len(numbered)}")
    return numbered


def _objects(lines: list[tuple[int, str]], name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number, line in lines:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(
                f"{name}: line {number} is not JSON ({error}); texts that begin with a brace go into a .txt file"
            ) from error
        if not isinstance(row, dict):
            raise ValueError(f"{name}: line {number} is no object with columns")
        rows.append(row)
    return rows
