"""Where the files of a cache lie: a folder, or an fsspec URL (`s3://bucket/signals`, `memory://signals`).

A file is there whole or not at all. In a folder it is written beside its place, forced to the disk and renamed; on an
object store one put is atomic; elsewhere it is written beside its place and moved. Importable without torch.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from kdlab.durable import write_atomically
from kdlab.models.places import cache_folder

OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "r2", "hf", "memory")
"""Protocols under which a file that is being put is not seen until it is whole."""
BESIDE = ".writing"


def open_storage(path: str, *, option: str) -> Storage:
    """The place that a path means. Raises ValueError, naming the `option`, for a protocol that fsspec does not know."""
    protocol, _, rest = path.partition("://")
    if not rest or protocol in ("file", "local"):
        return Folder(Path(rest or path).expanduser())
    import fsspec

    try:
        filesystem, root = fsspec.core.url_to_fs(path)
    except (ValueError, ImportError) as error:
        raise ValueError(f"{option}={path}: fsspec cannot open {protocol}:// ({str(error).splitlines()[0]})") from error
    return Remote(path, filesystem, root)


class Storage:
    """Named files. A name may have folders (`tokenizer/vocab.json`)."""

    url: str

    def __str__(self) -> str:
        return self.url

    def size(self, name: str) -> int | None:
        """Bytes of a file, None where there is none."""
        raise TypeError(type(self).__name__)

    def sizes(self) -> dict[str, int]:
        """The bytes of all files, in the order of their names, without hidden ones and such that are being written."""
        raise TypeError(type(self).__name__)

    def names(self) -> list[str]:
        """All files, in order."""
        return list(self.sizes())

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError where there is no such file."""
        raise TypeError(type(self).__name__)

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole, or leave what was there (OSError)."""
        raise TypeError(type(self).__name__)

    def remove(self, name: str) -> None:
        raise TypeError(type(self).__name__)

    def local(self, name: str, *, label: str) -> Path:
        """The file on a local disk, to be mapped: fetched once where it is far away. `label` tells apart caches that
        have lain under the same URL."""
        raise TypeError(type(self).__name__)


class Folder(Storage):
    """A folder on a file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)

    def size(self, name: str) -> int | None:
        try:
            return (self.root / name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def sizes(self) -> dict[str, int]:
        found = {}
        for file in self.root.rglob("*"):
            name = file.relative_to(self.root).as_posix()
            if not _hidden(name):
                with suppress(FileNotFoundError):  # another process tidies up
                    if file.is_file():
                        found[name] = file.stat().st_size
        return dict(sorted(found.items()))

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        path = self.root / name
        beside = f".{path.name}.{_writer()}{BESIDE}"  # two processes may write the same file
        write_atomically(path, lambda file: file.write(content), beside=beside)

    def remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def local(self, name: str, *, label: str) -> Path:
        return self.root / name

    def sweep(self) -> None:
        """Remove what processes of this machine that were killed were writing."""
        machine = _writer().partition("-")[0]
        for file in self.root.rglob(f".*.{machine}-*{BESIDE}"):
            if not _alive(int(file.name.removesuffix(BESIDE).rpartition("-")[2])):
                file.unlink(missing_ok=True)


class Remote(Storage):
    """A folder behind fsspec."""

    def __init__(self, url: str, filesystem: Any, root: str) -> None:
        self.url, self._files, self._root = url, filesystem, root.rstrip("/")
        protocol = filesystem.protocol
        self._atomic = any(p in OBJECT_STORES for p in ([protocol] if isinstance(protocol, str) else protocol))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def size(self, name: str) -> int | None:
        self._files.invalidate_cache()
        try:
            return int(self._files.size(self._path(name)))
        except FileNotFoundError:
            return None

    def sizes(self) -> dict[str, int]:
        self._files.invalidate_cache()
        try:
            found = self._files.find(self._root, detail=True)
        except FileNotFoundError:
            return {}
        inside = {str(path).partition(f"{self._root}/")[2]: int(told["size"]) for path, told in found.items()}
        return {name: size for name, size in sorted(inside.items()) if name and not _hidden(name)}

    def read(self, name: str) -> bytes:
        return bytes(self._files.cat_file(self._path(name)))

    def write(self, name: str, content: bytes) -> None:
        path = self._path(name)
        if self._atomic:
            self._files.pipe_file(path, content)
            return
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        parent, _, last = path.rpartition("/")
        beside = f"{parent}/.{last}.{_writer()}{BESIDE}"
        self._files.pipe_file(beside, content)
        self._files.mv(beside, path)

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._files.rm_file(self._path(name))

    def local(self, name: str, *, label: str) -> Path:
        place = hashlib.sha256(f"{self.url} {label}".encode()).hexdigest()[:32]
        copy = cache_folder() / "signals" / place / name
        if copy.is_file():
            return copy
        Folder(copy.parent).write(copy.name, self.read(name))
        return copy


def free_bytes(storage: Storage) -> int | None:
    """Room that is left where the files lie; None where nobody says."""
    if not isinstance(storage, Folder):
        return None
    folder = storage.root.absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _writer() -> str:
    """This process, among all of all machines."""
    return f"{hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]}-{os.getpid()}"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
