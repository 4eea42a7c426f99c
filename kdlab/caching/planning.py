"""The plan of a cache: which entries go into which shard, and what decides their bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdlab.teachers.cache.manifest import MANIFEST, PLAN, SEQ2SEQ, TOKENIZER, Manifest, Plan, read_plan, to_json
from kdlab.teachers.cache.shards import Shard
from kdlab.teachers.cache.store import KEY, Index, told_of
from kdlab.training.manifest import versions
from kdlab.training.options import flatten

if TYPE_CHECKING:
    from kdlab.caching.asking import Asked, Readers
    from kdlab.caching.recipe import CacheConfig
    from kdlab.teachers.cache.storage import Storage

PACKAGES = ("kdlab", "torch", "transformers", "numpy", "bitsandbytes", "torchao")
"""Packages whose version may change the last bits of a signal."""
NOT_ASKED = ("cache_dir", "pack", "group_by_length", "streaming")
"""Options of the dataset that change nothing of what a teacher is asked."""

LEAST_TOKENS = 1024
"""What a teacher reads at once at least: no memory is too small for it."""


class Layout:
    """The entries of each shard: consecutive ones, at least `shard_rows` rows together."""

    def __init__(self, rows: NDArray[np.int64], *, shard_rows: int) -> None:
        starts, held = [0], 0
        for i, count in enumerate(rows.tolist()):
            if held >= shard_rows:
                starts.append(i)
                held = 0
            held += count
        self.edges = [*starts, len(rows)] if len(rows) else [0]

    def __len__(self) -> int:
        return len(self.edges) - 1

    def entries(self, shard: int) -> range:
        return range(self.edges[shard], self.edges[shard + 1])

    def index(self, asked: Asked) -> Index:
        """Where every entry lies, by its key."""
        shards = np.repeat(np.arange(len(self)), np.diff(self.edges)).astype(np.int32)
        entries = np.concatenate([np.arange(n) for n in np.diff(self.edges)]).astype(np.int32)
        keys = np.array(asked.keys, KEY)
        order = np.argsort(keys, kind="stable")
        return Index(keys[order], shards=shards[order], entries=entries[order], rows=asked.rows[order].astype(np.int32))


def batches(lengths: NDArray[np.int64], *, tokens: int) -> Iterator[list[int]]:
    """Entries that a teacher reads at once, longest first: at most `tokens` with their padding, or a single one."""
    order = np.argsort(-lengths, kind="stable").tolist()
    begin = 0
    while begin < len(order):
        width = max(1, tokens // max(int(lengths[order[begin]]), 1))
        yield order[begin : begin + width]
        begin += width


def seed_of(seed: int, key: bytes) -> int:
    """The seed of an entry's draws: by what it is, not by where it lies."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=8, key=seed.to_bytes(8, "little")).digest(), "little") >> 1


def plan_of(
    config: CacheConfig,
    asked: Asked,
    readers: Readers,
    *,
    teacher: dict[str, Any],
    shards: int,
    overrides: Sequence[str],
) -> Plan:
    """The plan of a job. `teacher` tells whose signals they are."""
    asking = flatten({"dataset": asdict(config.dataset), "prompt": asdict(config.prompt)})
    reading = {name: value for name, value in asking.items() if name.partition(".")[2] not in NOT_ASKED}
    longest = max(config.dataset.max_length, int(asked.lengths.max(initial=0)))
    at_once = config.trainer.batch_size
    if readers.remote is not None and (server := config.teacher.server) is not None:
        at_once = server.batch_size * server.concurrency
    known = versions()
    return Plan(
        teacher=teacher,
        tokenizer=files_hash(readers.tokenizer_files),
        reading=reading | asked.hashes | {SEQ2SEQ: (readers.teacher or readers.student).seq2seq},
        codec=told_of(config.codec),
        vocabulary=readers.vocabulary,
        hidden=readers.hidden,
        seed=config.seed,
        shard_rows=config.shard_rows,
        batch_tokens=max(at_once * longest, LEAST_TOKENS),
        entries_hash=asked.keys_hash,
        counts={"entries": len(asked), "rows": int(asked.rows.sum()), "shards": shards, **asked.counts},
        versions={name: known[name] for name in PACKAGES},
        command=[word for word in overrides if not word.lstrip("+").startswith("output=")],
    )


def settle(storage: Storage, plan: Plan, *, tokenizer: dict[str, bytes]) -> tuple[Plan, list[str]]:
    """The plan that holds here: the one that lies here already, where it asks for the same, else this one, which is
    written. With it what is worth saying: circumstances that may change the last bits.

    Raises ValueError where another cache lies here, naming what differs.
    """
    named = f"output={storage}"
    there = read_plan(storage, named=named)
    if there is None:
        if not is_of(storage, plan):
            raise ValueError(f"{named}: has shards of another cache, and no plan.json of it; give an empty folder")
        for name, content in tokenizer.items():
            storage.write(f"{TOKENIZER}/{name}", content)
        storage.write(PLAN, to_json(plan))
        return plan, []
    differing = plan.differences(there)
    if differing:
        raise ValueError(
            f"{named}: another cache lies here: {', '.join(differing)}; use those options again, or another output="
        )
    if isinstance(there, Manifest) and not is_whole(storage, there):
        there = there.plan  # something was lost: it is made again
        storage.write(PLAN, to_json(there))
        storage.remove(MANIFEST)
    for name, content in tokenizer.items():
        if storage.size(f"{TOKENIZER}/{name}") is None:
            storage.write(f"{TOKENIZER}/{name}", content)
    said = [
        f"{name} {plan.versions.get(name)} (was {was}): signals may differ in their last bits"
        for name, was in there.versions.items()
        if plan.versions.get(name) != was
    ]
    if plan.batch_tokens != there.batch_tokens:
        said.append(
            f"trainer.batch_size: {plan.batch_tokens:,} tokens at once (was {there.batch_tokens:,}): signals may "
            "differ in their last bits"
        )
    return there, said


def is_of(storage: Storage, plan: Plan) -> bool:
    """Whether all shards that lie here, if any, say that they are of the cache that `plan` describes."""
    names = [name for name in storage.names() if name.startswith("shard-")]
    for name in names:
        try:
            number = int(name.removeprefix("shard-").partition(".")[0])
            Shard(storage.local(name, label=plan.identity), identity=plan.identity, number=number)
        except ValueError:
            return False
    return True


def is_whole(storage: Storage, manifest: Manifest) -> bool:
    """Whether all files of a finished cache are there, and the shards as long as they were."""
    sizes = storage.sizes()
    shards = all(sizes.get(shard.name) == shard.bytes for shard in manifest.shards)
    return shards and all(name in sizes for name in manifest.files)


def files_hash(files: dict[str, bytes]) -> str:
    """One hash of named contents."""
    parts = [f"{name} {hashlib.sha256(content).hexdigest()}" for name, content in sorted(files.items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
