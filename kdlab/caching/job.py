"""`cache`: one process's work on a cache, from nothing or from where others have got to.

    from kdlab.caching.job import cache
    cache(config, output_dir=Path("multirun/demo/signals/default"), overrides=[])

The cache lies in `config.output`, else in `output_dir`, where `cache.json` tells how this process got on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kdlab.caching.asking import Asked, Readers, open_readers
from kdlab.caching.filling import Filling, claim, tidy
from kdlab.caching.finishing import finish
from kdlab.caching.planning import Layout, is_whole, plan_of, settle
from kdlab.caching.progress import RowsBar
from kdlab.caching.record import keep_record
from kdlab.durable import disk_is_full
from kdlab.models import dtype as dtypes
from kdlab.models.source import resolve
from kdlab.models.weights_hash import source_hash
from kdlab.preflight.findings import size
from kdlab.teachers.cache.manifest import HEAD, MANIFEST, Manifest, Plan, manifest_in, read_plan, typed
from kdlab.teachers.cache.storage import Storage, free_bytes, open_storage
from kdlab.teachers.opening import open_teacher
from kdlab.training.device import choose_device, quiet_libraries

if TYPE_CHECKING:
    from kdlab.caching.recipe import CacheConfig
    from kdlab.teachers.base import Teacher

PER_ENTRY = 64
"""Bytes of an entry besides its signals: keys, offsets and checksums, in its shard and in the index."""


def cache(config: CacheConfig, *, output_dir: Path, overrides: list[str]) -> Manifest:
    """Write a teacher's signals for a dataset, or what is missing of them, and return the manifest of all.

    Raises ValueError or FileNotFoundError with one line: options that do not fit, another cache in the same place, a
    disk without room.
    """
    if config.dataset.streaming:
        raise ValueError(
            "dataset.streaming=true: a cache is planned before it is written, and a stream has no known end; "
            "write dataset.streaming=false, and dataset.num_samples for a part"
        )
    where = str(output_dir) if config.output is None else config.output
    with quiet_libraries():
        job = Job(config, open_storage(where, option="output"), overrides)
        try:
            manifest = job.run(output_dir)
            tidy(job.storage)
            return manifest
        except OSError as error:
            if not disk_is_full(error):
                raise
            there = len(job.layout) - len(job.filling.missing())
            raise ValueError(
                f"output={where}: {error.strerror}; {there} of {len(job.layout)} shards are there; make room and run "
                "the same command again"
            ) from error


class Job:
    """What a caching job knows, step by step: nothing is read or loaded before it is asked for."""

    def __init__(self, config: CacheConfig, storage: Storage, overrides: list[str]) -> None:
        self.config, self.storage, self.overrides = config, storage, overrides
        if config.trainer.threads is not None:
            torch.set_num_threads(config.trainer.threads)
        self.device = choose_device(config.trainer)
        self.bar = RowsBar()

    def run(self, output_dir: Path) -> Manifest:
        began = time.perf_counter()
        print(self.asked.verdict, flush=True)
        fresh = read_plan(self.storage, named=f"output={self.storage}") is None
        if fresh:  # a place where nothing fits is left as it is
            self.say_size(range(len(self.layout)))
        plan = self.plan
        self.filling.refuse_foreign()
        missing = self.filling.missing()
        if not missing and self.storage.size(MANIFEST) is not None:
            self.say(f"{self.storage}: this cache is finished; delete the folder to write it again")
            return manifest_in(self.storage, named=f"output={self.storage}")
        if not fresh:
            self.say_size(missing)
        rows = int(sum(self.asked.rows[self.layout.entries(n)].sum() for n in missing))
        filling_began = time.perf_counter()
        with self.bar.over(rows, shown=self.config.trainer.progress):
            self.filling.fill()
        filled = time.perf_counter() - filling_began
        manifest = finish(self.filling, self.asked, plan, fidelity_rows=self.config.fidelity_rows)
        self.say(
            f"finished: {manifest.counts['entries']:,} entries, {manifest.counts['rows']:,} rows, "
            f"{size(manifest.bytes)} ({manifest.bytes_per_row:,.1f} bytes a row): {self.storage}\n"
            f"train from it: kdlab train ... teacher=cached {typed('teacher.path', str(self.storage))}"
        )
        seconds = {"fill": filled, "total": time.perf_counter() - began}
        keep_record(
            self.config,
            output_dir,
            overrides=self.overrides,
            device=self.device,
            rows=self.bar.done,
            seconds=seconds,
            cache=str(self.storage),
        )
        return manifest

    def say(self, text: str) -> None:
        self.bar.say(text)

    @cached_property
    def teacher(self) -> Teacher:
        """The teacher, loaded when the first signal is needed."""
        config = self.config
        found = self.readers.remote or open_teacher(config.teacher, config.quantization, device=self.device)
        assert found is not None
        return found

    @cached_property
    def readers(self) -> Readers:
        return open_readers(self.config, self.device)

    @cached_property
    def asked(self) -> Asked:
        return Asked(self.config, self.readers)

    @cached_property
    def layout(self) -> Layout:
        return Layout(self.asked.rows, shard_rows=self.config.shard_rows)

    @cached_property
    def plan(self) -> Plan:
        """The plan of this cache, which lies in its place."""
        mine = plan_of(
            self.config,
            self.asked,
            self.readers,
            teacher=self.told(),
            shards=len(self.layout),
            overrides=self.overrides,
        )
        there = read_plan(self.storage, named=f"output={self.storage}")
        finished = isinstance(there, Manifest) and is_whole(self.storage, there)
        # of a finished cache nothing is written: it may lie where nothing can be
        with nullcontext() if finished else claim(self.storage, "plan", wait=True):
            plan, said = settle(self.storage, mine, tokenizer=self.readers.tokenizer_files)
        for line in said:
            self.say(line)
        return plan

    @cached_property
    def filling(self) -> Filling:
        return Filling(
            self.storage,
            self.plan,
            self.asked,
            self.layout,
            codec=self.config.codec,
            teacher=lambda: self.teacher,
            device=self.device,
            progress=self.bar.advance,
            say=self.say,
        )

    def told(self) -> dict[str, Any]:
        """Whose signals these are, for the plan."""
        told = self.config.teacher
        found: dict[str, Any] = {"path": told.path, "revision": told.revision}
        if (remote := self.readers.remote) is not None:
            return found | {
                "description": remote.description.partition(" at ")[0],  # replicas of a server are one teacher
                "identity": remote.identity,
                "weight_hash": None,
                "dtype": "server",
                "quantization": "none",
            }
        assert told.path is not None
        try:
            weights = source_hash(resolve(told.path, told.revision, option="teacher.path"))
        except FileNotFoundError:  # it comes with the model
            weights = self.teacher.identity
        dtype = str(dtypes.resolve(told.dtype, self.device)).removeprefix("torch.")
        return found | {
            # the cache of the hub gives the same weights as the hub
            "description": self.readers.description.removesuffix(" (cached)"),
            "identity": weights,
            "weight_hash": weights,
            "dtype": dtype,
            "quantization": self.config.quantization.kind,
        }

    def say_size(self, missing: Sequence[int]) -> None:
        """What is to be written, before anything is computed. Raises ValueError where the disk has no room for it."""
        readers, layout = self.readers, self.layout
        rows = sum(int(self.asked.rows[layout.entries(n)].sum()) for n in missing)
        each = self.config.codec.bytes_per_row(readers.vocabulary, readers.hidden)
        entries = sum(len(layout.entries(n)) for n in missing)
        head = 4 * readers.vocabulary * readers.hidden * (self.config.codec.name == "hidden")
        needed = int(rows * each + entries * PER_ENTRY) + head * (self.storage.size(HEAD) is None)
        free = free_bytes(self.storage)
        if len(missing) < len(layout):
            self.say(f"continuing: {len(layout) - len(missing)} of {len(layout)} shards are there")
        self.say(
            f"codec={self.config.codec.name}: {len(self.asked):,} entries, {int(self.asked.rows.sum()):,} rows in "
            f"{len(layout)} shards, about {each:,.0f} bytes a row; {size(needed)} to write"
            + (f", {size(free)} free" if free is not None else "")
        )
        if free is not None and needed > free:
            raise ValueError(
                f"output={self.storage}: needs about {size(needed)}, and {size(free)} are free; make room, give "
                "another output=, or choose a smaller codec (codec=topk codec.k=32)"
            )
