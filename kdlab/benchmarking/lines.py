"""A file of JSON lines that is only ever added to, so that a killed job goes on from what it had. Torch-free."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kdlab.durable import append_lines
from kdlab.models.progress import say

Line = dict[str, Any]
"""A line has a `key` besides what it tells."""
SUM = "sum"
"""The last entry of a line in its file: a hash of the others."""


def key_of(*parts: Any) -> str:
    """A hash of plain values: what a line depends on."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()[:24]


class Lines:
    """The lines of a file, by key, in the order in which they were added. Threads may share it.

    A last line that a kill tore is dropped, and that is said. Raises ValueError for a damaged or edited one: what was
    paid for is not thrown away unasked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._found: dict[str, list[Line]] = {}
        for line in self._read():
            self._found.setdefault(line["key"], []).append(line)

    def of(self, key: str) -> list[Line]:
        """The lines of a key, none where it was never added."""
        with self._lock:
            return list(self._found.get(key, []))

    def add(self, lines: Iterable[Line]) -> None:
        """Add lines, all on the disk before this returns."""
        added = list(lines)
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append_lines(self.path, [line | {SUM: key_of(line)} for line in added])
            for line in added:
                self._found.setdefault(line["key"], []).append(line)

    def _read(self) -> list[Line]:
        if not self.path.is_file():
            return []
        *whole, last = self.path.read_bytes().split(b"\n")
        found = []
        for number, text in enumerate(whole, start=1):
            line = _checked(text)
            if line is None and text.strip():
                raise ValueError(
                    f"{self.path}, line {number}: damaged or edited; take the line out, and what it told is made anew"
                )
            found += [line] if line is not None else []
        return found + self._end(last)

    def _end(self, last: bytes) -> list[Line]:
        """What comes after the last line break: a line that lacks nothing else gets it, a torn one is dropped."""
        if not last:
            return []
        line = _checked(last)
        with self.path.open("r+b") as file:
            end = file.seek(0, 2)
            if line is not None:
                file.write(b"\n")
                return [line]
            file.truncate(end - len(last))
        say(f"{self.path}: the last line was torn and is dropped")
        return []


def _checked(text: bytes) -> Line | None:
    """A line as it was added; None where it is not as it was written."""
    try:
        line = json.loads(text)
        written = line.pop(SUM)
        return line if written == key_of(line) and isinstance(line["key"], str) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
