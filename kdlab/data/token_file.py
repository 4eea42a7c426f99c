"""Token ids on disk: tokenised once, written whole or not at all, memory-mapped.

A folder holds whole documents one after another: `ids.npy` (uint16 or int32), `supervised.npy` (bool), `offsets.npy`
(int64 `[documents + 1]`), `hashes.npy` (uint64, of each document's ids), `rows.npy` (int64, the row of the source each
was made of), `chat.npy` (bool), `skipped.npy` (int64 `[K, 2]`: rows that became no document, and which of the reasons
in `meta.json` it was) and `meta.json`. For an encoder-decoder `ids.npy` holds the targets, and `sources.npy` with
`source_offsets.npy` what the encoder reads. Where another tokenizer reads the same rows, `starts.npy` and `ends.npy`
(int32) tell where in the bytes of the text each token lies.

Cutting to `max_length` and the held-out split happen afterwards, as ranges of tokens, so neither costs a second
tokenisation.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from kdlab.data.verdict import Reading
from kdlab.text.encoding import Encoded

Ids = NDArray[np.int32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
FILES = {"input_ids": "ids", "supervised": "supervised", "source": "sources", "starts": "starts", "ends": "ends"}
"""What the parts of an `Encoded` are called on disk."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Documents one after another: those of a folder, or of one block of a stream (`folder` None).

    `offsets` `[documents + 1]` say where each begins; `skipped` `[K, 2]` which rows became no document, and which of
    the reasons in `reading` it was. With an encoder `ids_T` are the targets and `sources_S` what it reads, of which the
    last `closing` tokens are special ones that a cut keeps. `starts_T` and `ends_T` are byte ranges.
    """

    reading: Reading
    content_hash: str
    ids_T: NDArray[Any]
    supervised_T: Bools
    offsets: Ints
    hashes: NDArray[np.uint64]
    rows: Ints
    chat: Bools
    skipped: Ints
    closing: int = 0
    sources_S: NDArray[Any] | None = None
    source_offsets: Ints | None = None
    starts_T: Ids | None = None
    ends_T: Ids | None = None
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.hashes)

    def __reduce__(self) -> Any:
        assert self.folder is not None
        return read_tokens, (self.folder,)  # a worker maps the file itself; the tokens are not sent to it

    @property
    def seq2seq(self) -> bool:
        return self.sources_S is not None

    @cached_property
    def lengths(self) -> Ints:
        """Tokens of each document; of an encoder-decoder's, those of the target."""
        return np.diff(self.offsets)

    @cached_property
    def source_lengths(self) -> Ints:
        """What the encoder reads of each document, in tokens; nothing where there is no encoder."""
        return np.zeros(len(self), np.int64) if self.source_offsets is None else np.diff(self.source_offsets)

    def source(self, document: int, *, max_length: int) -> Ids | None:
        """What the encoder reads of a document: its first `max_length` tokens, of which the last ones are those that
        end the whole (T5's `</s>`), as transformers truncates."""
        if self.sources_S is None or self.source_offsets is None:
            return None
        begin, end = int(self.source_offsets[document]), int(self.source_offsets[document + 1])
        if end - begin <= max_length:
            return np.array(self.sources_S[begin:end], np.int32)
        head = self.sources_S[begin : begin + max_length - self.closing]
        return np.concatenate([head, self.sources_S[end - self.closing : end]]).astype(np.int32)

    def reasons(self, rows: Ints) -> dict[str, int]:
        """Why these rows became no document, counted."""
        numbers = self.skipped[np.isin(self.skipped[:, 0], rows), 1]
        named = list(self.reading.skipped)
        return {named[k]: int(n) for k, n in zip(*np.unique(numbers, return_counts=True), strict=True)}


def read_tokens(folder: Path) -> Tokens:
    """The tokens of a folder, mapped into memory.

    Raises OSError, ValueError, KeyError or TypeError for a damaged one.
    """
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))

    def mapped(name: str, *, there: bool = True) -> Any:
        return np.load(folder / f"{name}.npy", mmap_mode="r") if there else None

    seq2seq, ranges = bool(meta["seq2seq"]), bool(meta["ranges"])
    return Tokens(
        reading=Reading(**meta["reading"]),
        content_hash=meta["content_hash"],
        closing=meta["closing"],
        ids_T=mapped("ids"),
        supervised_T=mapped("supervised"),
        sources_S=mapped("sources", there=seq2seq),
        starts_T=mapped("starts", there=ranges),
        ends_T=mapped("ends", there=ranges),
        source_offsets=np.load(folder / "source_offsets.npy") if seq2seq else None,
        **{name: np.load(folder / f"{name}.npy") for name in ("offsets", "hashes", "rows", "chat", "skipped")},
        folder=folder,
    )


def gathered(
    documents: Sequence[Encoded], reading: Reading, *, seq2seq: bool = False, ranges: bool = False, closing: int = 0
) -> Tokens:
    """The tokens of documents that are at hand, with what an encoder reads, and with byte ranges."""
    sources = [document.source for document in documents if document.source is not None]
    return Tokens(
        reading=reading,
        content_hash="",
        closing=closing,
        ids_T=_joined([document.input_ids for document in documents], np.int32),
        supervised_T=_joined([document.supervised for document in documents], np.bool_),
        sources_S=_joined(sources, np.int32) if seq2seq else None,
        source_offsets=_offsets(sources) if seq2seq else None,
        starts_T=_joined([d.starts for d in documents if d.starts is not None], np.int32) if ranges else None,
        ends_T=_joined([d.ends for d in documents if d.ends is not None], np.int32) if ranges else None,
        offsets=_offsets([document.input_ids for document in documents]),
        hashes=np.array([content_key(document) for document in documents], np.uint64),
        rows=np.array([document.row for document in documents], np.int64),
        chat=np.array([document.chat for document in documents], np.bool_),
        skipped=_skipped(reading),
    )


def _joined(parts: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts])


def _offsets(parts: Sequence[NDArray[Any]]) -> Ints:
    return np.cumsum(np.array([0, *map(len, parts)], np.int64))


def _skipped(reading: Reading) -> Ints:
    named = {reason: k for k, reason in enumerate(reading.skipped)}
    return np.array([(row, named[reason]) for row, reason in reading.skipped_rows], np.int64).reshape(-1, 2)


def content_key(document: Encoded) -> int:
    """64 bits that tell one document's ids from another's."""
    digest = hashlib.blake2b(document.input_ids.tobytes(), digest_size=8)
    if document.source is not None:
        digest.update(len(document.source).to_bytes(8, "little") + document.source.tobytes())
    return int.from_bytes(digest.digest(), "little")


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


def write_tokens(
    folder: Path, documents: Iterable[Encoded], reading: Reading, *, vocabulary: int, closing: int = 0
) -> None:
    """Write a folder, whole or not at all: into one beside it, renamed when it is complete. Two processes may do it at
    once; the second finds the first's. `reading` is written as it stands after the last document."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.unfinished-", dir=folder.parent))
    try:
        meta = _fill(unfinished, documents, np.uint16 if vocabulary <= 1 << 16 else np.int32)
        np.save(unfinished / "skipped.npy", _skipped(reading))
        meta |= {"closing": closing, "reading": asdict(reading)}
        (unfinished / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
        try:
            os.rename(unfinished, folder)
        except OSError:
            if not (folder / "meta.json").is_file():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _fill(folder: Path, documents: Iterable[Encoded], kind: Any) -> dict[str, Any]:
    """Write the arrays. Which there are, as the first document has them, and the hash of all that they hold."""
    documents = iter(documents)
    first = next(documents, None)
    seq2seq = first is not None and first.source is not None
    ranges = first is not None and first.starts is not None
    dtypes: dict[str, Any] = {"input_ids": kind, "supervised": np.bool_}
    dtypes |= {"source": kind} if seq2seq else {}
    dtypes |= {"starts": np.int32, "ends": np.int32} if ranges else {}
    writers = {name: _ArrayWriter(folder / f"{FILES[name]}.npy", dtype) for name, dtype in dtypes.items()}
    digest, lengths, source_lengths, hashes, rows, chat = hashlib.sha256(), [0], [0], [], [], []
    for document in chain([] if first is None else [first], documents):
        digest.update(len(document.input_ids).to_bytes(8, "little"))
        if document.source is not None:
            digest.update(len(document.source).to_bytes(8, "little"))
            source_lengths.append(len(document.source))
        for name, writer in writers.items():
            digest.update(writer.append(getattr(document, name)))
        lengths.append(len(document.input_ids))
        hashes.append(content_key(document))
        rows.append(document.row)
        chat.append(document.chat)
    for writer in writers.values():
        writer.close()
    np.save(folder / "offsets.npy", np.cumsum(np.array(lengths, np.int64)))
    np.save(folder / "hashes.npy", np.array(hashes, np.uint64))
    np.save(folder / "rows.npy", np.array(rows, np.int64))
    np.save(folder / "chat.npy", np.array(chat, np.bool_))
    if seq2seq:
        np.save(folder / "source_offsets.npy", np.cumsum(np.array(source_lengths, np.int64)))
    return {"content_hash": digest.hexdigest(), "seq2seq": seq2seq, "ranges": ranges}
