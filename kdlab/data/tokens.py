"""Rows to a token store: detect the format, convert, encode in batches, and keep the result by the hash of all that
went in."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from kdlab.data.pairing import Teacher
from kdlab.data.readers import Readers
from kdlab.data.sources import Source
from kdlab.data.token_file import Tokens, read_tokens, write_tokens
from kdlab.data.verdict import Reading
from kdlab.models.places import cache_folder
from kdlab.text.encoding import Encoded, Encoder
from kdlab.text.formats import FORMATS, Document, Format, Row, SkipRow, Wording, detect, languages, matching
from kdlab.text.prompts import NO_QUESTION, QUESTION

if TYPE_CHECKING:
    from kdlab.data.dataset import DatasetConfig

VERSION = 3
"""Raised when the same input gives other tokens or another layout than before: older cache entries are then unread."""
DETECTION_ROWS = 1000
BATCH_ROWS = 1000
BATCH_CHARACTERS = 4_000_000
PROGRESS_SECONDS = 2.0
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EEXIST)


def tokenised(
    source: Source,
    encoder: Encoder,
    *,
    format_name: str,
    wording: Wording,
    num_samples: int | None,
    cache: Path,
) -> tuple[Tokens, bool]:
    """The tokens of a source, from the cache where they are there, and whether they were.

    The key is the content of the rows, the tokenizer, the template and every option that changes a token.
    """
    parts = [VERSION, source.content_hash, encoder.fingerprint(), format_name, asdict(wording), num_samples]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
    folder = cache / "tokens" / key
    found = _open(folder)
    if found is not None:
        found.reading.source = source.name  # the same rows may lie under another name today
        return found, True
    reading, form, rows = understand(source, encoder, format_name=format_name, wording=wording, num_samples=num_samples)
    with keeping_in(cache):
        encoded = _encode(documents(rows, form, wording, reading), encoder, reading, typed=source.typed)
        write_tokens(folder, encoded, reading, vocabulary=encoder.vocabulary, closing=closing(encoder))
    return read_tokens(folder), False


@contextmanager
def keeping_in(cache: Path) -> Iterator[None]:
    """Raise ValueError where the cache cannot be written to."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise ValueError(f"dataset.cache_dir={cache}: cannot write there ({error.strerror}); name another") from error


def tokenised_by_both(
    source: Source, readers: Readers, config: DatasetConfig, *, num_samples: int | None
) -> tuple[Tokens, Teacher | None, bool]:
    """The student's tokens of a source, the teacher's where it has a tokenizer or a prompt of its own, and whether all
    were in the cache. Raises ValueError where a prompt is to word plain text."""
    if any(wording.prompt != QUESTION for _, wording in readers.sides):
        _refuse_text(source, config.format)
    cache = cache_folder(config.cache_dir)
    found = [
        tokenised(source, encoder, format_name=config.format, wording=wording, num_samples=num_samples, cache=cache)
        for encoder, wording in readers.sides
    ]
    (tokens, _), *theirs = found
    return tokens, readers.paired(theirs[0][0] if theirs else None), all(cached for _, cached in found)


def _refuse_text(source: Source, format_name: str) -> None:
    """Raise ValueError for plain text: before it is tokenised, which may take long."""
    columns = {column for row in islice(source.open(), DETECTION_ROWS) for column in row}
    if columns and detect(columns, forced=format_name, typed=source.typed) is FORMATS["text"]:
        raise ValueError(f"{source.typed}: its rows are plain text, which {NO_QUESTION}")


def _open(folder: Path) -> Tokens | None:
    """The tokens in this folder; a damaged one is removed, to be written again."""
    if not folder.is_dir():
        return None
    try:
        return read_tokens(folder)
    except (OSError, ValueError, KeyError, TypeError):
        shutil.rmtree(folder, ignore_errors=True)  # another process may be doing the same
        return None


def closing(encoder: Encoder) -> int:
    """How many special tokens a tokenizer puts behind what an encoder reads; one that is cut keeps them."""
    ids, special = encoder.tokenizer("a")["input_ids"], set(encoder.tokenizer.all_special_ids)
    return sum(1 for _ in takewhile(special.__contains__, reversed(ids))) if encoder.seq2seq else 0


def understand(
    source: Source, encoder: Encoder, *, format_name: str, wording: Wording, num_samples: int | None
) -> tuple[Reading, Format, Iterator[Row]]:
    """The format of a source by its first rows, and all its rows. Raises ValueError where there are none, or they are
    plain text and the encoder's model reads a source and writes a target."""
    rows = islice(source.open(), num_samples)
    first = list(islice(rows, DETECTION_ROWS))
    if not first:
        raise ValueError(f"{source.typed}: is empty")
    columns = list(dict.fromkeys(column for row in first for column in row))
    form = detect(columns, forced=format_name, typed=source.typed)
    if encoder.seq2seq and form is FORMATS["text"]:
        pairs = ", ".join(str(pair) for pair in FORMATS.values() if pair is not form)
        raise ValueError(
            f"{source.typed}: its rows are plain text, and an encoder-decoder model needs a source and a target; "
            f"give rows with the columns {pairs}"
        )
    reading = Reading(
        source=source.name,
        format=form.name,
        columns=columns,
        unused=[column for column in columns if column not in form.reads()],
        also=_also(columns, form) if format_name == "auto" else [],
        directions=_directions(first, wording) if form is FORMATS["translation"] else [],
    )
    return reading, form, chain(first, rows)


def _also(columns: list[str], form: Format) -> list[str]:
    """Other formats that fit and would read a column this one does not."""
    return [name for name in matching(columns) if FORMATS[name].reads() & set(columns) - form.reads()]


def _directions(rows: list[Row], wording: Wording) -> list[str]:
    """`en -> de`, and whatever other directions these rows are read in."""
    found: dict[str, None] = {}
    for row in rows:
        with suppress(SkipRow):  # counted where the row is read
            found[" -> ".join(languages(row, wording))] = None
    return list(found)


def documents(
    rows: Iterator[Row], form: Format, wording: Wording, reading: Reading, *, first: int = 0
) -> Iterator[tuple[int, Document]]:
    """The rows, numbered from `first`, as documents; those that cannot become one are counted in `reading`."""
    for number, row in enumerate(rows, start=first):
        reading.rows += 1
        try:
            yield number, form.convert(row, wording)
        except SkipRow as reason:
            reading.skip(str(reason), number)


def encode_batches(
    stream: Iterator[tuple[int, Document]], encoder: Encoder, reading: Reading
) -> Iterator[list[Encoded]]:
    """Numbered documents encoded a batch at a time: many rows, or few long ones."""
    batch: list[Document] = []
    rows: list[int] = []
    size = 0
    for row, document in chain(stream, [(-1, None)]):
        if document is not None:
            batch.append(document)
            rows.append(row)
            size += len(document) if isinstance(document, str) else sum(len(m["content"]) for m in document)
        if batch and (document is None or len(batch) >= BATCH_ROWS or size >= BATCH_CHARACTERS):
            encoded = []
            for number, result in zip(rows, encoder.encode(batch), strict=True):
                if isinstance(result, SkipRow):
                    reading.skip(str(result), number)
                else:
                    encoded.append(replace(result, row=number))
            reading.documents += len(encoded)
            yield encoded
            batch, rows, size = [], [], 0


def _encode(
    numbered: Iterator[tuple[int, Document]], encoder: Encoder, reading: Reading, *, typed: str
) -> Iterator[Encoded]:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console, started, tokens = Console(stderr=True), time.monotonic(), 0
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", visible=False)
        for batch in encode_batches(numbered, encoder, reading):
            tokens += sum(len(document.input_ids) for document in batch)
            yield from batch
            said = f"tokenising {reading.source}: {reading.rows:,} rows, {tokens:,} tokens"
            progress.update(task, description=said, visible=time.monotonic() - started > PROGRESS_SECONDS)
    if not reading.documents:
        raise ValueError(f"{typed}: no row is usable; {reading}")
