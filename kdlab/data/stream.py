"""Training on a stream: rows are read, tokenised and shuffled a block at a time, and never held as a whole."""

from __future__ import annotations

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from kdlab.data.sources import Source
from kdlab.data.store import Example, content_key
from kdlab.data.tokens import documents, encode_batches, tokenised, understand
from kdlab.data.verdict import Part, Reading, Verdict
from kdlab.models.places import cache_folder
from kdlab.text.encoding import Encoded, Encoder
from kdlab.text.formats import Format, Row

if TYPE_CHECKING:
    from kdlab.data.dataset import Data, DatasetConfig

BLOCK_ROWS = 1024
State = dict[str, Any]


class TokenStream:
    """Examples of a source that is too large to hold, a block of rows at a time.

    The first `skip_rows` rows are held out; rows equal to one of the `heldout` contents are left out and counted.
    """

    def __init__(
        self,
        source: Source,
        form: Format,
        encoder: Encoder,
        *,
        max_length: int,
        skip_rows: int = 0,
        num_rows: int | None = None,
        heldout: frozenset[int] = frozenset(),
    ) -> None:
        self.source, self.form, self.encoder, self.max_length = source, form, encoder, max_length
        self.skip_rows, self.num_rows, self.heldout = skip_rows, num_rows, heldout

    def blocks(self, state: State) -> Iterator[tuple[State, list[Example], dict[str, int]]]:
        """The examples of each block from `state` on to the end of the source, with the state the block begins at
        (`row`; `stream`, where the hub's stream stands, or None; `counts` of all before it), and those after."""
        row, position = max(state["row"], self.skip_rows), state["stream"]
        counts: Counter[str] = Counter(state["counts"])
        rows, where = self._rows(row, position)
        while block := list(islice(rows, BLOCK_ROWS)):
            reading = Reading(source=self.source.name, format=self.form.name, columns=[])
            part = Part(examples=0, tokens=0, supervised=0)
            encoded = encode_batches(documents(iter(block), self.form, reading, first=row), self.encoder, reading)
            examples = [example for batch in encoded for document in batch for example in self._cut(document, part)]
            begun = {"row": row, "stream": position, "counts": dict(counts)}
            counts.update(_counted(reading, part))
            yield begun, examples, dict(counts)
            row, position = row + len(block), where()

    def _rows(self, row: int, position: Any) -> tuple[Iterator[Row], Callable[[], Any]]:
        """The rows from a state on, and a function that tells where the hub's stream stands."""
        stop = None if self.num_rows is None else max(0, self.num_rows - row)
        if self.source.stream is None:
            return islice(islice(self.source.open(), row, None), stop), lambda: None
        stream = copy.deepcopy(self.source.stream)  # one that was given a place begins there ever after
        if position is None:
            return islice(islice(iter(stream), row, None), stop), stream.state_dict
        stream.load_state_dict(position)
        return islice(iter(stream), stop), stream.state_dict

    def _cut(self, document: Encoded, part: Part) -> Iterator[Example]:
        """The examples of one document, as `split.examples` makes them from a store."""
        ids, supervised, T = document.input_ids, document.supervised, len(document.input_ids)
        if content_key(ids) in self.heldout:
            part.skipped["that are also held out"] = part.skipped.get("that are also held out", 0) + 1
            return
        edges = [0, min(T, self.max_length)] if document.chat else [*range(0, T, self.max_length), T]
        if len(edges) > 2 and edges[-1] - edges[-2] == 1:
            edges[-2] -= 1
        for start, stop in pairwise(edges):
            example = Example(
                input_ids=ids[start:stop],
                supervised=supervised[start:stop] & (np.arange(stop - start) > 0),
                row=document.row,
            )
            if not example.supervised.any():
                reason = (
                    "whose response lies wholly beyond dataset.max_length" if stop < T else "with no token to predict"
                )
                part.skipped[reason] = part.skipped.get(reason, 0) + 1
                continue
            if document.chat and stop < T:
                part.cut, part.cut_tokens = part.cut + 1, part.cut_tokens + T - stop
            part.examples += 1
            part.tokens += len(example)
            part.supervised += int(example.supervised.sum())
            yield example


def _counted(reading: Reading, part: Part) -> dict[str, int]:
    """The counts of a block under the names they are reported by."""
    counts = {"rows": reading.rows, "examples": part.examples, "tokens": part.tokens, "supervised": part.supervised}
    counts |= {"cut": part.cut, "cut_tokens": part.cut_tokens}
    return counts | {f"skipped: {why}": n for why, n in (reading.skipped | part.skipped).items()}


def open_stream(config: DatasetConfig, encoder: Encoder, source: Source, heldout_source: Source | None) -> Data:
    """The streamed `Data`: held out is `heldout_source`, else the first `heldout` rows, stored as ever."""
    from kdlab.data import split
    from kdlab.data.dataset import Data

    skip_rows = 0 if heldout_source is not None else int(config.heldout)
    if heldout_source is None:
        heldout_source = Source(
            name=f"first {skip_rows:,} rows of {source.name}",
            content_hash=_rows_hash(islice(source.open(), skip_rows)),
            open=source.open,
            typed=source.typed,
        )
    file, cached = tokenised(
        heldout_source,
        encoder,
        format_name=config.format,
        num_samples=skip_rows or None,
        cache=cache_folder(config.cache_dir),
    )
    heldout, heldout_part = split.examples(file, np.ones(len(file), np.bool_), max_length=config.max_length)
    reading, form, _ = understand(source, format_name=config.format, num_samples=config.num_samples)
    stream = TokenStream(
        source,
        form,
        encoder,
        max_length=config.max_length,
        skip_rows=skip_rows,
        num_rows=config.num_samples,
        heldout=frozenset(int(h) for h in file.hashes),
    )
    verdict = Verdict(
        reading=reading,
        heldout_reading=file.reading,
        split=heldout_source.name,
        train=None,
        heldout=heldout_part,
        cached=cached,
    )
    if not len(heldout):
        typed = f"dataset.heldout={config.heldout}" if skip_rows else heldout_source.typed
        raise ValueError(f"{typed}: no example left to hold out\n{verdict}")
    return Data(train=stream, heldout=heldout, verdict=verdict)


def _rows_hash(rows: Iterable[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    return digest.hexdigest()
