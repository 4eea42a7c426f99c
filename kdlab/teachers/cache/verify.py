"""Look for damage in a cache: every file is read, and what is not as it was written is named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from kdlab.teachers.cache.manifest import MANIFEST, Manifest, manifest_in
from kdlab.teachers.cache.shards import Shard
from kdlab.teachers.cache.storage import Storage, open_storage
from kdlab.teachers.cache.store import codec_of


def verify(path: str, *, seen: Callable[[str], None] = lambda name: None) -> list[str]:
    """What is wrong with the cache at `path`, each in one line that names the file; empty where nothing is. `seen` is
    called with the name of every file that was read."""
    storage = open_storage(path, option="PATH")
    try:
        manifest = manifest_in(storage, named=path)
        codec_of(manifest.codec, named=path)
    except (ValueError, FileNotFoundError) as error:
        return [str(error)]
    return list(_damage(storage, manifest, seen))


def _damage(storage: Storage, manifest: Manifest, seen: Callable[[str], None]) -> Iterator[str]:
    yield from _counts(manifest)
    there = storage.sizes()
    for name, sha256 in manifest.files.items():
        if name not in there:
            yield f"{name}: is missing"
        elif hashlib.sha256(storage.read(name)).hexdigest() != sha256:
            yield f"{name}: is damaged (its sha256 differs from the manifest's)"
        seen(name)
    for number, told in enumerate(manifest.shards):
        if told.name not in there:
            yield f"{told.name}: is missing ({told.entries:,} entries)"
            continue
        size = there[told.name]
        if size < told.bytes:
            yield f"{told.name}: is cut short: {size:,} bytes of {told.bytes:,}"
        elif hashlib.sha256(content := storage.read(told.name)).hexdigest() != told.sha256:
            yield from _what_differs(storage, manifest, number, len(content))
        seen(told.name)
    planned = {shard.name for shard in manifest.shards}
    for name in sorted(there.keys() - planned):
        if name.startswith("shard-"):
            yield f"{name}: is no shard of this cache ({MANIFEST} names {len(planned)})"


def _counts(manifest: Manifest) -> Iterator[str]:
    """Whether the shards of the manifest are all that was planned."""
    found = {
        "shards": len(manifest.shards),
        "entries": sum(shard.entries for shard in manifest.shards),
        "rows": sum(shard.rows for shard in manifest.shards),
    }
    for name, count in found.items():
        if count != manifest.counts[name]:
            yield f"{MANIFEST}: names {count:,} {name}, and {manifest.counts[name]:,} were planned"


def _what_differs(storage: Storage, manifest: Manifest, number: int, size: int) -> Iterator[str]:
    """Where the bytes of a shard differ from those that were written."""
    told = manifest.shards[number]
    file = storage.local(told.name, label=manifest.identity)
    try:
        shard = Shard(file, identity=manifest.identity, number=number)
    except ValueError as error:
        yield str(error).replace(str(file), told.name)
        return
    damaged = shard.damaged()
    for entry in damaged:
        yield f"{told.name}: entry {entry} (key {shard.keys[entry].tobytes().hex()}) is damaged: its checksum differs"
    if not damaged:
        more = f" ({size:,} bytes, {told.bytes:,} were written)" if size != told.bytes else ""
        yield f"{told.name}: is damaged outside its entries{more}: its sha256 differs from the manifest's"
