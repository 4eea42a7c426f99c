"""What a teacher is asked by a caching job: the examples that `kdlab train` with the same options would show it.

Both splits are read, the held-out examples first, each as the teacher reads it; an example that comes twice is asked
once. The student's weights are never made: its tokenizer decides.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdlab.batch import Batch
from kdlab.data.collate import padded
from kdlab.data.dataset import Side, build
from kdlab.data.store import Example, Layout, TokenStore
from kdlab.models.pair import shared_entries
from kdlab.teachers.cache.keys import key_of
from kdlab.text.templates import chat_template, read_template
from kdlab.training.pair import within

if TYPE_CHECKING:
    import torch

    from kdlab.caching.recipe import CacheConfig
    from kdlab.data.verdict import Verdict
    from kdlab.teachers.base import Teacher


@dataclass(frozen=True, kw_only=True)
class Readers:
    """Who reads: the student, and a teacher that has a tokenizer of its own (None: as the student).

    `tokenizer` and `tokenizer_files` are the teacher's; `description`, `vocabulary` and `hidden` (0: not known) tell of
    it; `remote` is a teacher that is no model of ours.
    """

    student: Side
    teacher: Side | None
    tokenizer: Any
    tokenizer_files: dict[str, bytes]
    description: str
    vocabulary: int
    hidden: int
    remote: Teacher | None


class Asked:
    """The entries of a cache, in their order: `keys`, `rows` and `lengths` (tokens) of each, and batches of them.

    `counts` says what became of the examples. `hashes` are those of tokenizer, template and prompts.
    """

    def __init__(self, config: CacheConfig, readers: Readers) -> None:
        data = build(config.dataset, readers.student, readers.teacher, prompt=config.prompt)
        assert isinstance(data.train, TokenStore)
        self.verdict: Verdict = data.verdict
        self.hashes = _hashes(config, readers)
        self._stores = [store.teacher or store for store in (data.heldout, data.train)]
        self._layout = _layout(data.train, readers)
        self._tokenizer = readers.student.tokenizer
        self._shared = None
        if config.loss.pairing == "shared":
            self._shared = shared_entries(
                self._tokenizer,
                readers.tokenizer,
                entries=readers.student.entries or readers.vocabulary,
                teacher_entries=readers.vocabulary,
            )
        self._places: list[tuple[int, int]] = []
        self.keys: list[bytes] = []
        rows, lengths = [], []
        self.counts = {"heldout": 0, "train": 0, "repeated": 0, "without_rows": 0}
        seen: set[bytes] = set()
        for number, (split, store) in enumerate(zip(("heldout", "train"), self._stores, strict=True)):
            for i in range(len(store)):
                example = store[i]
                count, key = rows_of(example), key_of(example)
                if count == 0 or key in seen:
                    self.counts["repeated" if count else "without_rows"] += 1
                    continue
                seen.add(key)
                self.counts[split] += 1
                self._places.append((number, i))
                self.keys.append(key)
                rows.append(count)
                lengths.append(len(example))
        self.rows: NDArray[np.int64] = np.array(rows, np.int64)
        self.lengths: NDArray[np.int64] = np.array(lengths, np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def keys_hash(self) -> str:
        """The hash of all keys in their order."""
        return hashlib.sha256(b"".join(self.keys)).hexdigest()

    def batch(self, entries: Sequence[int]) -> Batch:
        """These entries as the teacher reads them. Raises ValueError for a token that the teacher does not know."""
        examples = [self._stores[store][i] for store, i in (self._places[e] for e in entries)]
        batch = padded(examples, self._layout)
        return batch if self._shared is None else within(batch, self._shared, self._tokenizer)


def open_readers(config: CacheConfig, device: torch.device) -> Readers:
    """Who reads, found from configs and tokenizers, with no weight in memory. Raises as `sketch` does, for models that
    are nowhere or do not go together."""
    from kdlab.preflight.sketch import sketch

    found = sketch(config, device)
    student, teacher = found.sides(config.loss.pairing)
    told = found.reader
    assert told is not None
    return Readers(
        student=student,
        teacher=teacher,
        tokenizer=told.tokenizer,
        tokenizer_files=tokenizer_files(told.tokenizer),  # before a text is read with it, which may change its state
        description=told.description,
        vocabulary=told.vocabulary,
        hidden=0 if found.teacher is None else found.teacher.hidden,
        remote=found.told,
    )


def tokenizer_files(tokenizer: Any) -> dict[str, bytes]:
    """The files that a tokenizer saves, by name."""
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = sorted(file for file in Path(folder).rglob("*") if file.is_file())
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def rows_of(example: Example) -> int:
    """The predictions that an example asks for."""
    supervised = example.supervised if example.source_ids is not None else example.supervised[1:]
    return int(supervised.sum())


def _layout(store: TokenStore, readers: Readers) -> Layout:
    """How the teacher's batches are laid out. What pads is masked, but it must be an id that the teacher has."""
    if store.teacher is not None:
        layout = store.layout(pad_id=0).teacher
        assert layout is not None
        return layout
    pad = readers.student.tokenizer.pad_token_id or 0
    return store.layout(pad_id=pad if pad < readers.vocabulary else 0)


def _hashes(config: CacheConfig, readers: Readers) -> dict[str, str]:
    """The hashes of what words and cuts the text that the teacher reads."""
    own = None if config.dataset.template is None else read_template(config.dataset.template)
    reader, own = (readers.student, own) if readers.teacher is None else (readers.teacher, None)
    found = {
        "tokenizer_hash": json.dumps(sorted(reader.tokenizer.get_vocab().items())),
        "template_hash": chat_template(reader.tokenizer, own),
        "prompt_hash": json.dumps([config.prompt.student, config.prompt.teacher]),
    }
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in found.items()}
