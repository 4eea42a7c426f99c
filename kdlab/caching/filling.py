"""Fill a cache, shard by shard: this process, and any number beside it.

A shard is made by one process, from its own entries alone, and appears whole. In a folder a process claims a shard by a
lock that its death lets go; elsewhere nothing is claimed, and what is made twice is made alike.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import sleep
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kdlab.caching.planning import Layout, batches, seed_of
from kdlab.rows import Projected, supervised
from kdlab.teachers.cache.manifest import HEAD, MANIFEST, Plan, ShardFile
from kdlab.teachers.cache.shards import Shard, shard_bytes, shard_name
from kdlab.teachers.cache.storage import Folder, Storage
from kdlab.teachers.cache.store import head_bytes

if TYPE_CHECKING:
    from kdlab.batch import Batch
    from kdlab.caching.asking import Asked
    from kdlab.rows import Signal
    from kdlab.teachers.base import Teacher
    from kdlab.teachers.codecs import Codec

CLAIMS = ".claims"
POLL_SECONDS = 0.5
KEEPS_HEAD = "hidden"
"""The codec whose entries are read with the teacher's head."""


class Filling:
    """The work on one cache. `teacher` is called when it is needed first; `progress` with the rows that were made."""

    def __init__(
        self,
        storage: Storage,
        plan: Plan,
        asked: Asked,
        layout: Layout,
        *,
        codec: Codec,
        teacher: Callable[[], Teacher],
        device: torch.device,
        progress: Callable[[int], None] = lambda rows: None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.storage, self.plan, self.asked, self.layout, self.codec = storage, plan, asked, layout, codec
        self._teacher, self._device, self._progress, self._say = teacher, device, progress, say
        self._waiting = self._head_kept = False

    def missing(self) -> list[int]:
        """The shards that are not there, in order."""
        there = set(self.storage.names())
        return [n for n in range(len(self.layout)) if shard_name(n) not in there]

    def refuse_foreign(self) -> None:
        """Remove shards that are cut short or belong to another cache, and say so: they are made again."""
        if not isinstance(self.storage, Folder):
            return  # elsewhere they are looked at when all are there
        for number in set(range(len(self.layout))) - set(self.missing()):
            try:
                Shard(self.storage.root / shard_name(number), identity=self.plan.identity, number=number)
            except ValueError as error:
                self._again(number, str(error))

    def fill(self) -> None:
        """Return when every shard is there, whoever made it."""
        first = first_shard(len(self.layout))
        while missing := self.missing():
            ordered = [n for n in missing if n >= first] + [n for n in missing if n < first]
            made = [number for number in ordered if self._try(number)]
            if not made:
                self._wait(len(missing))

    def _try(self, number: int) -> bool:
        """Make a shard unless somebody is at it, or has been. Returns whether it was made here."""
        with claim(self.storage, shard_name(number)) as mine:
            if not mine or self.storage.size(shard_name(number)) is not None:
                return False
            self.storage.write(shard_name(number), self.made(number))
            return True

    def _wait(self, missing: int) -> None:
        if not self._waiting:
            self._say(f"waiting for {missing} shards that other processes are making")
            self._waiting = True
        sleep(POLL_SECONDS)

    def made(self, number: int) -> bytes:
        """The content of a shard."""
        entries = self.layout.entries(number)
        payloads: list[bytes] = [b""] * len(entries)
        for places in batches(self.asked.lengths[entries.start : entries.stop], tokens=self.plan.batch_tokens):
            chosen = [entries[place] for place in places]
            for place, payload in zip(places, self._encoded(chosen), strict=True):
                payloads[place] = payload
            self._progress(int(self.asked.rows[chosen].sum()))
        return shard_bytes(
            payloads,
            rows=self.asked.rows[entries.start : entries.stop].tolist(),
            keys=self.asked.keys[entries.start : entries.stop],
            identity=self.plan.identity,
            number=number,
        )

    def signal(self, entries: Sequence[int]) -> Signal:
        """What the teacher says of these entries, one after the other."""
        batch = self.asked.batch(entries).to(self._device)
        positions_N, _ = supervised(batch.labels_BT, shift=batch.shift)
        return self._signal(batch, positions_N)

    def _signal(self, batch: Batch, positions_N: Tensor) -> Signal:
        try:
            signal = self._teacher().signal(batch, positions_N)
        except torch.OutOfMemoryError as error:
            raise ValueError(
                f"trainer.batch_size: no memory for {self.plan.batch_tokens:,} tokens at once on {self._device}; lower "
                "it: what is there is kept"
            ) from error
        if self.keeps_head and isinstance(signal, Projected):
            self._keep_head(signal)
        return signal

    def _encoded(self, entries: list[int]) -> list[bytes]:
        """The bytes of these entries."""
        batch = self.asked.batch(entries).to(self._device)
        positions_N, labels_N = supervised(batch.labels_BT, shift=batch.shift)
        return self.codec.encode(
            self._signal(batch, positions_N),
            labels_N,
            lengths=self.asked.rows[entries].tolist(),
            seeds=[seed_of(self.plan.seed, self.asked.keys[entry]) for entry in entries],
        )

    @property
    def keeps_head(self) -> bool:
        """Whether the entries are read with the teacher's head."""
        return self.codec.name == KEEPS_HEAD

    def ensure_head(self) -> None:
        """The teacher's head, where it is needed and not there."""
        if self.keeps_head and self.storage.size(HEAD) is None:
            self.signal([0])

    def _keep_head(self, signal: Projected) -> None:
        if not self._head_kept and self.storage.size(HEAD) is None:
            self.storage.write(HEAD, head_bytes(signal))
        self._head_kept = True

    def check(self) -> list[ShardFile]:
        """Every shard, read as a whole: what the manifest says of it. One that is damaged is removed and said, to be
        made again: the list then lacks it."""
        found = []
        for number, entries in ((n, self.layout.entries(n)) for n in range(len(self.layout))):
            file = self.storage.local(shard_name(number), label=self.plan.identity)
            try:
                shard = Shard(file, identity=self.plan.identity, number=number)
                damaged = shard.damaged()
                if damaged:
                    raise ValueError(f"{file}: entry {damaged[0]} is damaged")
                if shard.keys.tobytes() != b"".join(self.asked.keys[entries.start : entries.stop]):
                    raise ValueError(f"{file}: holds other entries than planned")
            except ValueError as error:
                self._again(number, str(error))
                continue
            content = file.read_bytes()
            rows = int(self.asked.rows[entries.start : entries.stop].sum())
            found.append(
                ShardFile(
                    name=shard_name(number),
                    sha256=hashlib.sha256(content).hexdigest(),
                    entries=len(entries),
                    rows=rows,
                    bytes=len(content),
                )
            )
        return found

    def _again(self, number: int, why: str) -> None:
        self._say(f"{why}: it is made again")
        self.storage.local(shard_name(number), label=self.plan.identity).unlink(missing_ok=True)
        self.storage.remove(shard_name(number))


@contextmanager
def claim(storage: Storage, name: str, *, wait: bool = False) -> Iterator[bool]:
    """Whether `name` is this process's to work on, for the time of the block; `wait` until it is. Where nothing can be
    locked it always is."""
    if not isinstance(storage, Folder):
        yield True
        return
    from filelock import FileLock, Timeout

    folder = storage.root / CLAIMS
    lock = FileLock(folder / f"{name}.lock", timeout=-1 if wait else 0)
    for attempt in range(3):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
            break
        except Timeout:
            yield False
            return
        except FileNotFoundError:  # the process that has finished the cache tidies up
            if attempt == 2:
                raise
    try:
        yield True
    finally:
        lock.release()


def tidy(storage: Storage) -> None:
    """Remove what only the making of a cache needs, once it is finished."""
    if isinstance(storage, Folder) and storage.size(MANIFEST) is not None and (storage.root / CLAIMS).is_dir():
        storage.sweep()
        with suppress(OSError):  # another process may be looking whether anything is left to do; it then tidies up
            shutil.rmtree(storage.root / CLAIMS)


def first_shard(shards: int) -> int:
    """Where this process begins, so that many do not queue for the same shard."""
    told: dict[str, Any] = {name: os.environ.get(f"SLURM_ARRAY_TASK_{name}") for name in ("ID", "MIN", "COUNT")}
    if told["ID"] is not None and told["COUNT"] is not None:
        return ((int(told["ID"]) - int(told["MIN"] or 0)) * shards // max(int(told["COUNT"]), 1)) % max(shards, 1)
    return int(shards * (os.getpid() * 0.6180339887498949 % 1))
