"""Token ids on disk: tokenised once, memory-mapped, looked at through examples.

A store folder holds whole documents one after another: `ids.npy` (uint16 or int32), `supervised.npy` (bool),
`offsets.npy` (int64 `[documents + 1]`), `hashes.npy` (uint64, of each document's ids), `rows.npy` (int64, the row of
the source each was made of), `chat.npy` (bool) and `meta.json`. Cutting to `max_length` and the held-out split happen
afterwards, as ranges of tokens, so neither costs a second tokenisation.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from kdlab.data.verdict import Reading
from kdlab.text.encoding import Encoded


@dataclass(frozen=True, kw_only=True)
class Example:
    """Token ids `[T]` and which of them are targets `[T]`, never the first: nothing comes before it. `row` is the row
    of the source it was made of, from 0; None for one that was made up."""

    input_ids: NDArray[np.int32]
    supervised: NDArray[np.bool_]
    row: int | None = None

    def __len__(self) -> int:
        return len(self.input_ids)


class TokenFile:
    """An open store folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        self.reading = Reading(**meta["reading"])
        self.content_hash: str = meta["content_hash"]
        self.ids_T: NDArray[Any] = np.load(folder / "ids.npy", mmap_mode="r")
        self.supervised_T: NDArray[np.bool_] = np.load(folder / "supervised.npy", mmap_mode="r")
        self.offsets: NDArray[np.int64] = np.load(folder / "offsets.npy")
        self.hashes: NDArray[np.uint64] = np.load(folder / "hashes.npy")
        self.rows: NDArray[np.int64] = np.load(folder / "rows.npy")
        self.chat: NDArray[np.bool_] = np.load(folder / "chat.npy")

    def __len__(self) -> int:
        return len(self.hashes)

    def __reduce__(self) -> tuple[type[TokenFile], tuple[Path]]:
        return TokenFile, (self.folder,)  # a worker maps the file itself; the tokens are not sent to it

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)


class TokenStore:
    """Examples as ranges `[start, stop)` of a token file; `source` is the document each came from."""

    def __init__(
        self,
        file: TokenFile,
        *,
        starts: NDArray[np.int64],
        stops: NDArray[np.int64],
        source: NDArray[np.int64],
        max_length: int,
    ) -> None:
        assert len(starts) == len(stops) == len(source)
        self.file = file
        self.starts, self.stops, self.source, self.max_length = starts, stops, source, max_length

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, i: int) -> Example:
        span = slice(int(self.starts[i]), int(self.stops[i]))
        supervised = np.array(self.file.supervised_T[span], bool)
        supervised[:1] = False
        return Example(
            input_ids=np.array(self.file.ids_T[span], np.int32),
            supervised=supervised,
            row=int(self.file.rows[self.source[i]]),
        )

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example."""
        return self.stops - self.starts

    @cached_property
    def supervised(self) -> NDArray[np.int64]:
        """Supervised tokens of each example."""
        return count_supervised(self.file.supervised_T, self.starts, self.stops)

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())

    @property
    def supervised_tokens(self) -> int:
        """The predictions all examples together ask for."""
        return int(self.supervised.sum())

    @cached_property
    def content_hash(self) -> str:
        """Changes when any token, mask or boundary of any example does."""
        digest = hashlib.sha256(self.file.content_hash.encode())
        digest.update(self.starts.tobytes() + self.stops.tobytes())
        return digest.hexdigest()


def content_key(ids: NDArray[np.int32]) -> int:
    """64 bits that tell one document's ids from another's."""
    return int.from_bytes(hashlib.blake2b(ids.tobytes(), digest_size=8).digest(), "little")


def count_supervised(
    supervised_T: NDArray[np.bool_], starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The supervised tokens in each range, its first token aside. Ranges rise and do not overlap."""
    counts = np.zeros(len(starts), np.int64)
    longer = stops - starts > 1
    if longer.any():
        edges = np.stack([starts[longer] + 1, stops[longer]], axis=1).reshape(-1)
        if edges[-1] == len(supervised_T):
            edges = edges[:-1]  # reduceat sums from the last edge to the end, and wants every edge inside the array
        counts[longer] = np.add.reduceat(supervised_T.view(np.uint8), edges, dtype=np.int64)[::2]
    return counts


class _ArrayWriter:
    """Appends to a .npy file whose length is known only at the end: numpy pads headers for rewriting."""

    def __init__(self, path: Path, dtype: Any) -> None:
        self.dtype, self.count = np.dtype(dtype), 0
        self.stream: BinaryIO = path.open("wb")
        self._header()
        self.begin = self.stream.tell()

    def _header(self) -> None:
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.count,)}
        np.lib.format.write_array_header_1_0(self.stream, header)

    def append(self, values: NDArray[Any]) -> bytes:
        raw = values.astype(self.dtype).tobytes()
        self.stream.write(raw)
        self.count += len(values)
        return raw

    def close(self) -> None:
        self.stream.seek(0)
        self._header()
        assert self.stream.tell() == self.begin
        self.stream.close()


def write_store(folder: Path, documents: Iterable[Encoded], reading: Reading, *, vocabulary: int) -> None:
    """Write a store, whole or not at all: into a folder beside it, renamed when it is complete. Two processes may do it
    at once; the second finds the first's. `reading` is written as it stands after the last document."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.unfinished-", dir=folder.parent))
    try:
        _fill(unfinished, documents, reading, vocabulary)
        try:
            os.rename(unfinished, folder)
        except OSError:
            if not (folder / "meta.json").is_file():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _fill(folder: Path, documents: Iterable[Encoded], reading: Reading, vocabulary: int) -> None:
    ids = _ArrayWriter(folder / "ids.npy", np.uint16 if vocabulary <= 1 << 16 else np.int32)
    mask = _ArrayWriter(folder / "supervised.npy", np.bool_)
    digest, lengths, hashes, rows, chat = hashlib.sha256(), [0], [], [], []
    for document in documents:
        raw = ids.append(document.input_ids)
        digest.update(len(raw).to_bytes(8, "little") + raw + mask.append(document.supervised))
        lengths.append(len(document.input_ids))
        hashes.append(content_key(document.input_ids))
        rows.append(document.row)
        chat.append(document.chat)
    ids.close()
    mask.close()
    np.save(folder / "offsets.npy", np.cumsum(np.array(lengths, np.int64)))
    np.save(folder / "hashes.npy", np.array(hashes, np.uint64))
    np.save(folder / "rows.npy", np.array(rows, np.int64))
    np.save(folder / "chat.npy", np.array(chat, np.bool_))
    meta = {"content_hash": digest.hexdigest(), "reading": asdict(reading)}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
