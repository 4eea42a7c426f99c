"""A file of JSON lines that is only ever added to, so that a killed job goes on from what it had. Torch-free."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kdlab.models.progress import say

Line = dict[str, Any]
"""A line has a `key` besides what it tells."""


def key_of(*parts: Any) -> str:
    """A hash of plain values: what a line depends on."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()[:24]


class Lines:
    """The lines of a file, by key, in the order in which they were added. Threads may share it.

    A last line that a kill tore is dropped, and that is said. Raises ValueError for a damaged one.
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
            with self.path.open("ab") as file:
                file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in added).encode())
                file.flush()
                os.fsync(file.fileno())
            for line in added:
                self._found.setdefault(line["key"], []).append(line)

    def _read(self) -> list[Line]:
        if not self.path.is_file():
            return []
        content = self.path.read_bytes()
        whole, _, torn = content.rpartition(b"\n")
        if torn:
            say(f"{self.path}: the last line was torn and is dropped")
            with self.path.open("r+b") as file:
                file.truncate(len(content) - len(torn))
        found = []
        for number, text in enumerate(whole.split(b"\n") if whole else [], start=1):
            try:
                line = json.loads(text)
                line["key"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{self.path}, line {number}: damaged; take the line out") from error
            found.append(line)
        return found
