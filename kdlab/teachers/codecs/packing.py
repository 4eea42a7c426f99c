"""Arrays of whole numbers as bytes: byte by byte apart, each plane compressed by itself.

The first bytes of all numbers lie together, then the second bytes, as many as the largest number has: each plane has a
statistic of its own, and most are nearly empty. A plane that zstd shrinks by less than a seventh is kept as it is:
reading it again would cost more than the bytes. The same arrays give the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdlab.teachers.codecs.base import Payload

LEVEL = 1
"""Of zstd. What is left here has hardly a pattern but its frequencies: higher levels gain 1 % and read slower."""
FOREIGN = "bytes that this codec did not write"


def bits(values: NDArray[Any]) -> NDArray[Any]:
    """Floats as whole numbers, bit for bit."""
    return np.ascontiguousarray(values).view(f"<u{values.dtype.itemsize}")


def floats(values: NDArray[Any], size: int) -> NDArray[Any]:
    """Back from `bits`: floats of `size` bytes."""
    return values.astype(f"<u{size}", copy=False).view(f"<f{size}")


def joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Some entries' values of one field, one after the other."""
    return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def pack(fields: Sequence[NDArray[Any]]) -> bytes:
    """Some flat arrays of whole numbers from 0 to 2^32 - 1, one after the other."""
    header, body = [struct.pack("<B", len(fields))], []
    for field in fields:
        planes = [_compressed(plane) for plane in _planes(field)]
        header.append(struct.pack(f"<BI{len(planes)}I", len(planes), len(field), *map(len, planes)))
        body += planes
    return b"".join(header + body)


def unpack(payload: Payload, most: Sequence[int]) -> list[NDArray[Any]]:
    """The arrays of `pack`, of the smallest type that holds them. `most` says how long each may be: nothing longer is
    ever allocated. Raises ValueError for other bytes."""
    view = memoryview(payload)
    try:
        (count,), place = struct.unpack_from("<B", view), 1
        shapes: list[tuple[int, tuple[int, ...]]] = []
        for _ in range(count):
            planes, length = struct.unpack_from("<BI", view, place)
            shapes.append((length, struct.unpack_from(f"<{planes}I", view, place + 5)))
            place += 5 + 4 * planes
    except struct.error as error:
        raise ValueError(f"{FOREIGN} (cut short)") from error
    fits = len(shapes) == len(most) and all(
        length <= longest and len(sizes) <= 4 for (length, sizes), longest in zip(shapes, most, strict=True)
    )
    if not fits or place + sum(sum(sizes) for _, sizes in shapes) != len(view):
        raise ValueError(f"{FOREIGN} (lengths do not fit)")
    fields = []
    for length, sizes in shapes:
        planes = []
        for size in sizes:
            planes.append(_plain(view[place : place + size], length))
            place += size
        fields.append(_whole(planes, length))
    return fields


def _planes(field: NDArray[Any]) -> list[NDArray[np.uint8]]:
    assert field.ndim == 1
    largest = int(field.max()) if len(field) else 0
    assert 0 <= largest < 2**32
    width = -(-largest.bit_length() // 8)
    bytes_NW = np.ascontiguousarray(field, "<u4").view(np.uint8).reshape(-1, 4)
    return [np.ascontiguousarray(bytes_NW[:, w]) for w in range(width)]


def _compressed(plane: NDArray[np.uint8]) -> bytes:
    import pyarrow  # type: ignore[import-untyped]

    plain = plane.tobytes()
    small: bytes = pyarrow.Codec("zstd", compression_level=LEVEL).compress(plain, asbytes=True)
    return small if 7 * len(small) < 6 * len(plain) else plain


def _plain(view: memoryview, length: int) -> NDArray[np.uint8]:
    import pyarrow

    if len(view) == length:
        return np.frombuffer(view, np.uint8)
    try:
        buffer = pyarrow.decompress(view, decompressed_size=length, codec="zstd")
    except (OSError, ValueError) as error:
        raise ValueError(f"{FOREIGN} (a compressed part is broken)") from error
    plane = np.frombuffer(buffer, np.uint8)
    if len(plane) != length:
        raise ValueError(f"{FOREIGN} (a compressed part is too short)")
    return plane


def _whole(planes: list[NDArray[np.uint8]], length: int) -> NDArray[Any]:
    if not planes:
        return np.zeros(length, np.uint8)
    if len(planes) == 1:
        return planes[0]
    whole: Any = planes[-1].astype(np.uint16 if len(planes) == 2 else np.uint32)
    for plane in planes[-2::-1]:
        whole <<= 8
        whole |= plane
    found: NDArray[Any] = whole
    return found
