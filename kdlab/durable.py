"""Files that are either the old one or the new one, whole, whenever the process dies; and one process a folder."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], object], *, beside: str | None = None) -> None:
    """`write` a file beside `path`, force it to the disk, then rename it over `path`.

    Its name is meanwhile `beside` (None: one that two processes at once would share). Raises whatever `write` raises
    (OSError on a full disk); the file at `path` is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(beside or f".{path.name}.writing")
    try:
        with draft.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


TORCH_ON_A_FULL_DISK = ("file write failed", "unexpected pos")


def disk_is_full(error: BaseException) -> bool:
    """Whether `error`, or the one it came from, is a disk or quota that is full; torch tells it in a RuntimeError."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if isinstance(error, RuntimeError) and any(words in str(error) for words in TORCH_ON_A_FULL_DISK):
        return True
    before = error.__cause__ or error.__context__
    return before is not None and disk_is_full(before)


# Between brackets nothing but numbers, null, true and false. A line break is the layout's: in a string it is spelt out.
PLAIN_LIST = re.compile(r'\[\n([^][{}"]+)\]')


def to_json(content: Any) -> bytes:
    """Plain values as JSON, indented, but a list of numbers on one line: a matrix has a line a row. Floats keep every
    bit."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    return (PLAIN_LIST.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n").encode()


def write_json(path: Path, content: Any) -> None:
    """`to_json`, atomically."""
    told = to_json(content)
    write_atomically(path, lambda file: file.write(told))


def read_json(path: Path) -> Any | None:
    """What `write_json` wrote, or None where there is no file or it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def json_lines(rows: Iterable[Any]) -> bytes:
    """Plain values, one line of JSON each."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def append_lines(path: Path, rows: Iterable[Any]) -> None:
    """Add plain values to the end of a file of JSON lines, all on the disk before this returns."""
    with path.open("ab") as file:
        file.write(json_lines(rows))
        file.flush()
        os.fsync(file.fileno())


def replace_folder(path: Path, fill: Callable[[Path], object]) -> None:
    """`fill` a new folder beside `path`, then let it take the place of `path`."""
    beside = path.with_name(f".{path.name}.writing")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        fill(beside)
        for file in beside.rglob("*"):
            if file.is_file():
                _sync(file)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    if path.exists():
        shutil.rmtree(path)
    beside.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FolderLock:
    """One process at a time in a folder. The system lets the lock go when the process ends, however it ends.

        with FolderLock(folder): ...

    Raises ValueError where another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".lock"
        self._file: int | None = None

    def __enter__(self) -> FolderLock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(file, 200).decode(errors="replace").strip()
            os.close(file)
            raise ValueError(
                f"{self._path.parent}: another process ({holder or 'unknown'}) is running here; "
                "wait for it, or give this run another name="
            ) from error
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
        self._file = file
        # A forked child (a data worker) that outlives a killed parent would keep the lock.
        os.register_at_fork(after_in_child=self._close)
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
