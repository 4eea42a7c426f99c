"""Training on a stream: rows are read, tokenised and shuffled a block at a time, and never held as a whole."""

from __future__ import annotations

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdlab.data import split
from kdlab.data.readers import Readers
from kdlab.data.sources import Source
from kdlab.data.store import Example, Layout, TokenStore
from kdlab.data.token_file import Tokens, gathered
from kdlab.data.tokens import closing, documents, encode_batches, tokenised_by_both, understand
from kdlab.data.verdict import Part, Reading, Verdict
from kdlab.text.encoding import Encoder
from kdlab.text.formats import Format, Row, Wording

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
        readers: Readers,
        config: DatasetConfig,
        *,
        skip_rows: int = 0,
        heldout: NDArray[np.uint64],
    ) -> None:
        self.source, self.form, self.readers = source, form, readers
        self.max_length, self.max_target_length = config.max_length, config.max_target_length
        self.skip_rows, self.num_rows, self.heldout = skip_rows, config.num_samples, heldout

    @property
    def described(self) -> list[Any]:
        """What decides which examples flow."""
        read = [[encoder.fingerprint(), asdict(wording)] for encoder, wording in self.readers.sides]
        return [self.source.name, *read, self.max_length, self.max_target_length]

    def layout(self, *, pad_id: int) -> Layout:
        """How batches of these examples are laid out."""
        readers = self.readers
        theirs = None
        if readers.teacher is not None:
            theirs = Layout(pad_id=readers.pad_id, seq2seq=readers.teacher.seq2seq)
        return Layout(
            pad_id=pad_id,
            longest=self.max_length,
            longest_target=self.max_target_length or self.max_length,
            seq2seq=readers.student.seq2seq,
            teacher=theirs,
        )

    def blocks(self, state: State) -> Iterator[tuple[State, list[Example], dict[str, int]]]:
        """The examples of each block from `state` on to the end of the source, with the state the block begins at
        (`row`; `stream`, where the hub's stream stands, or None; `counts` of all before it), and those after."""
        row, position = max(state["row"], self.skip_rows), state["stream"]
        counts: Counter[str] = Counter(state["counts"])
        rows, where = self._rows(row, position)
        while block := list(islice(rows, BLOCK_ROWS)):
            store, part, reading = self._examples(block, row)
            begun = {"row": row, "stream": position, "counts": dict(counts)}
            counts.update(_counted(reading, part))
            yield begun, [store[i] for i in range(len(store))], dict(counts)
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

    def _examples(self, block: list[Row], first: int) -> tuple[TokenStore, Part, Reading]:
        """The examples of a block, as they are made from stored tokens."""
        tokens, *theirs = (self._tokens(block, first, *side) for side in self.readers.sides)
        held = np.isin(tokens.hashes, self.heldout)
        store, part = split.examples(
            tokens,
            ~held,
            max_length=self.max_length,
            max_target_length=self.max_target_length,
            teacher=self.readers.paired(theirs[0] if theirs else None),
        )
        if held.any():
            part.skipped["that are also held out"] = int(held.sum())
        return store, part, tokens.reading

    def _tokens(self, block: list[Row], first: int, encoder: Encoder, wording: Wording) -> Tokens:
        reading = Reading(source=self.source.name, format=self.form.name, columns=[])
        numbered = documents(iter(block), self.form, wording, reading, first=first)
        encoded = list(chain.from_iterable(encode_batches(numbered, encoder, reading)))
        return gathered(
            encoded,
            reading,
            seq2seq=encoder.seq2seq,
            ranges=self.readers.teacher is not None and not self.readers.same_tokens,
            closing=closing(encoder),
        )


def _counted(reading: Reading, part: Part) -> dict[str, int]:
    """The counts of a block under the names they are reported by."""
    counts = {"rows": reading.rows, "examples": part.examples, "tokens": part.tokens, "supervised": part.supervised}
    counts |= {"cut": part.cut, "cut_tokens": part.cut_tokens}
    if part.source_tokens:
        names = "source_tokens", "cut_sources", "cut_source_tokens"
        counts |= {name: getattr(part, name) for name in names}
    if part.teacher is not None:
        counts["teacher_tokens"] = part.teacher.tokens
    return counts | {f"skipped: {why}": n for why, n in (reading.skipped | part.skipped).items()}


def open_stream(config: DatasetConfig, readers: Readers, source: Source, heldout_source: Source | None) -> Data:
    """The streamed `Data`: held out is `heldout_source`, else the first `heldout` rows, stored as ever."""
    from kdlab.data.dataset import Data

    skip_rows = 0 if heldout_source is not None else int(config.heldout)
    if heldout_source is None:
        heldout_source = Source(
            name=f"first {skip_rows:,} rows of {source.name}",
            content_hash=_rows_hash(islice(source.open(), skip_rows)),
            open=source.open,
            typed=source.typed,
        )
    tokens, theirs, cached = tokenised_by_both(heldout_source, readers, config, num_samples=skip_rows or None)
    heldout, heldout_part = split.examples(
        tokens,
        np.ones(len(tokens), np.bool_),
        max_length=config.max_length,
        max_target_length=config.max_target_length,
        teacher=theirs,
    )
    reading, form, _ = understand(
        source, readers.student, format_name=config.format, wording=readers.wording, num_samples=config.num_samples
    )
    verdict = Verdict(
        reading=reading,
        heldout_reading=tokens.reading,
        split=heldout_source.name,
        train=None,
        heldout=heldout_part,
        cached=cached,
    )
    if not len(heldout):
        typed = f"dataset.heldout={config.heldout}" if skip_rows else heldout_source.typed
        raise ValueError(f"{typed}: no example left to hold out\n{verdict}")
    stream = TokenStream(source, form, readers, config, skip_rows=skip_rows, heldout=tokens.hashes)
    return Data(train=stream, heldout=heldout, verdict=verdict)


def _rows_hash(rows: Iterable[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    return digest.hexdigest()
