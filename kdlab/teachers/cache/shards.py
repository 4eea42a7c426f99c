"""A shard: the entries of one piece of a plan in one safetensors file.

`payload` (uint8) is their bytes one after another, `offsets` (int64 `[E + 1]`) where each begins, `rows` (int32 `[E]`)
how many rows it has, `keys` (uint8 `[E, 16]`) whose it is, `checks` (uint32 `[E]`) the crc32 of its bytes. The metadata
names the cache it belongs to and its number. A file is mapped, so an entry is read without reading the others.

Shape letters: E entries.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdlab.teachers.cache.keys import BYTES

META = "kdlab"
"""The one entry of a file's metadata (several would be written in an order of chance)."""
ARRAYS = {"payload", "offsets", "rows", "keys", "checks"}
HEADER = 8
"""Bytes in front of a safetensors header that tell its length."""


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.safetensors"


def shard_bytes(
    payloads: Sequence[bytes], *, rows: Sequence[int], keys: Sequence[bytes], identity: str, number: int
) -> bytes:
    """The content of a shard's file."""
    lengths = np.array([len(payload) for payload in payloads], np.int64)
    tensors = {
        "payload": np.frombuffer(b"".join(payloads), np.uint8),
        "offsets": np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        "rows": np.array(rows, np.int32),
        "keys": np.frombuffer(b"".join(keys), np.uint8).reshape(-1, BYTES),
        "checks": np.array([zlib.crc32(payload) for payload in payloads], np.uint32),
    }
    return file_bytes(tensors, {"cache": identity, "shard": number})


def file_bytes(tensors: dict[str, NDArray[Any]], meta: dict[str, Any]) -> bytes:
    """A safetensors file, the same for the same content."""
    from safetensors.numpy import save

    return bytes(save(tensors, metadata={META: json.dumps(meta, sort_keys=True)}))


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """A safetensors file, mapped: its arrays, and what kdlab wrote into its metadata."""

    arrays: dict[str, NDArray[Any]]
    meta: dict[str, Any]


KINDS = {"U8": np.uint8, "I32": np.int32, "I64": np.int64, "U32": np.uint32}


def mapped(file: Path) -> Mapped:
    """Map a file that `file_bytes` wrote. Raises ValueError for any other, or one that is cut short."""
    size = file.stat().st_size
    try:
        whole = np.memmap(file, np.uint8, mode="r")
        length = int.from_bytes(whole[:HEADER].tobytes(), "little")
        if HEADER + length > size:
            raise ValueError("its header is cut short")
        header = json.loads(whole[HEADER : HEADER + length].tobytes())
        meta = json.loads(header.pop("__metadata__")[META])
        begin = HEADER + length
        arrays = {}
        for name, told in header.items():
            start, stop = told["data_offsets"]
            if begin + stop > size:
                raise ValueError(f"it is cut short: {size:,} bytes, and {begin + stop:,} are named")
            flat = whole[begin + start : begin + stop].view(np.ndarray)
            arrays[name] = flat.view(KINDS[told["dtype"]]).reshape(told["shape"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no file of a cache ({error})") from error
    return Mapped(arrays=arrays, meta=meta)


class Shard:
    """A shard's file, mapped.

    Raises ValueError, naming the file, where it is cut short, no shard, or one of another cache.
    """

    def __init__(self, file: Path, *, identity: str, number: int) -> None:
        self.file = file
        try:
            found = mapped(file)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        if found.meta != {"cache": identity, "shard": number}:
            raise ValueError(f"{file}: is a shard of another cache, or another shard of this one")
        lost = sorted(ARRAYS - found.arrays.keys())
        if lost:
            raise ValueError(f"{file}: it is no shard (it has no {lost[0]})")
        self.payload: memoryview = found.arrays["payload"].data
        self.offsets: list[int] = found.arrays["offsets"].tolist()
        self.rows: NDArray[np.int32] = found.arrays["rows"]
        self.keys: NDArray[np.uint8] = found.arrays["keys"]
        self._checks: list[int] = found.arrays["checks"].tolist()

    def __len__(self) -> int:
        return len(self.rows)

    def entry(self, number: int, *, key: bytes | None = None) -> memoryview:
        """The bytes of an entry. Raises ValueError where they are not those that were written, or not those of `key`
        (None: whosever they are)."""
        if key is not None and self.keys[number].tobytes() != key:
            raise ValueError(f"{self.file}: entry {number} is another's than the index says; run `kdlab cache verify`")
        payload = self.payload[self.offsets[number] : self.offsets[number + 1]]
        if zlib.crc32(payload) != self._checks[number]:
            raise ValueError(
                f"{self.file}: entry {number} is damaged (its checksum differs); look for more by "
                "`kdlab cache verify`, delete the file, and run the same `kdlab cache` command again"
            )
        return payload

    def damaged(self) -> list[int]:
        """The entries whose bytes are not those that were written."""
        return [i for i in range(len(self)) if not self._whole(i)]

    def _whole(self, number: int) -> bool:
        begin, end = self.offsets[number : number + 2]
        return 0 <= begin <= end <= len(self.payload) and zlib.crc32(self.payload[begin:end]) == self._checks[number]
