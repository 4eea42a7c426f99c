"""Whether a cache holds the signals that a run will ask for: found out before the first step, not in the middle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kdlab.data.store import TokenStore
from kdlab.teachers.cache.keys import key_of
from kdlab.teachers.cached import CachedTeacher
from kdlab.text.templates import chat_template, read_template
from kdlab.training.options import flatten

if TYPE_CHECKING:
    from kdlab.data.dataset import Data
    from kdlab.teachers.base import Teacher
    from kdlab.training.recipe import TrainConfig

SHOWN = 4
"""Options that differ that a message names."""
TEMPLATE = "template_hash"
"""Where `reading` has the hash of the chat template that words the student's examples."""


def refuse_missing(
    teacher: CachedTeacher, judge: Teacher | None, config: TrainConfig, data: Data, tokenizer: Any
) -> int:
    """How many examples ask for a signal. Raises ValueError where a training or held-out one has none: how many, the
    first row, and which options the cache was made with that are others here. `judge` is the cache that held-out
    examples are looked up in (None: the same); `tokenizer` is the student's.

    Of a stream, which is only known as it is read, the held-out part is looked at.
    """
    total = 0
    for name, store, source in (("training", data.train, teacher), ("held-out", data.heldout, judge or teacher)):
        if not isinstance(store, TokenStore):
            continue
        assert isinstance(source, CachedTeacher)
        missing, asked, first = absent(source, store)
        total += asked
        if missing:
            row = "" if first is None else f" (row {first} of the dataset is the first)"
            raise ValueError(
                f"{source.name}: has no signal for {missing:,} of {asked:,} {name} examples{row}; "
                f"{reason(source.cache.manifest.reading, config, tokenizer)}"
            )
    return total


def absent(teacher: CachedTeacher, store: TokenStore) -> tuple[int, int, int | None]:
    """How many examples have no signal, how many have a supervised token and so ask for one, and the dataset's row of
    the first that is missing."""
    missing, asked, first = 0, 0, None
    for i in range(len(store)):
        example = store[i]
        read = example if example.teacher is None else example.teacher
        if not read.supervised[0 if read.source_ids is not None else 1 :].any():
            continue
        asked += 1
        if key_of(read) not in teacher.cache:
            missing += 1
            first = example.row if first is None else first
    return missing, asked, first


def reason(was: Mapping[str, Any], config: TrainConfig, tokenizer: Any) -> str:
    """Which options of a cache's `reading` are others in this run, and the remedy."""
    now = flatten(asdict(config))
    changed = [
        f"{name}={_word(value)} (now {_word(now[name])})"
        for name, value in was.items()
        if name in now and now[name] != value
    ]
    own = None if config.dataset.template is None else read_template(config.dataset.template)
    template = chat_template(tokenizer, own)
    if was.get(TEMPLATE) not in (None, hashlib.sha256(template.encode()).hexdigest()):
        changed.append("another chat template")
    if not changed:
        return "it was made of other data: run `kdlab cache` with the options of this run"
    shown = ", ".join(changed[:SHOWN]) + (f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else "")
    return f"it was made with {shown}: use that again, or run `kdlab cache` with the options of this run"


def _word(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
