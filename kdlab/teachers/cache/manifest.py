"""The manifest of a cache: what was asked of which teacher, how it was kept, and a checksum of every file.

`plan.json` is written before the first shard, `manifest.json` after the last; the second is the first, completed. There
is no date, no machine and no timing in either: the same job gives the same bytes. Importable without torch.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from kdlab.teachers.cache.storage import Folder, Storage, open_storage

VERSION = 1
"""Raised when the files of a cache change their layout: older ones are then refused."""
PLAN, MANIFEST = "plan.json", "manifest.json"
INDEX, HEAD, TOKENIZER = "index.safetensors", "head.safetensors", "tokenizer"
AGAIN = "delete it and run the same `kdlab cache` command again: whole shards are kept"
SEQ2SEQ = "teacher_seq2seq"
"""Where `reading` says that the teacher is an encoder-decoder; caches of before have no such line."""
BINDING = ("version", "vocabulary", "seed", "shard_rows", "entries_hash")
"""What decides the bytes of the shards, besides the teacher's weights and numbers and the codec's options."""
BINDING_TEACHER = ("identity", "dtype", "quantization")


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """One shard, as it should be."""

    name: str
    sha256: str
    entries: int
    rows: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a cache is to be.

    `teacher`: path, revision, description, identity, weight_hash (None: behind a server), dtype, quantization.
    `tokenizer` is the hash of the files of `tokenizer/`. `reading` holds the options that decide what is asked
    (`dataset.*`, `prompt.*`), the hashes of prompts, templates and of the tokenizer that reads, and `SEQ2SEQ`. `codec`:
    name, version and options. `vocabulary` and `hidden` are the teacher's sizes; `entries_hash` is that of all keys in
    their order. `batch_tokens` is what the teacher reads at once. `command` are the options of the first command,
    without `output`.
    """

    version: int = VERSION
    teacher: dict[str, Any]
    tokenizer: str
    reading: dict[str, Any]
    codec: dict[str, Any]
    vocabulary: int
    hidden: int
    seed: int
    shard_rows: int
    batch_tokens: int
    entries_hash: str
    counts: dict[str, int]
    versions: dict[str, str | None]
    command: list[str]

    @property
    def identity(self) -> str:
        """The hash of what decides the bytes of the shards."""
        parts = [getattr(self, name) for name in BINDING] + [self.teacher[name] for name in BINDING_TEACHER]
        return checksum({"parts": parts, "codec": self.codec})

    def differences(self, was: Plan) -> list[str]:
        """Why another plan is of other signals: `codec.k=64 (was 128)`, this one's value first."""
        if self.identity == was.identity:
            return []
        ours, theirs = self.teacher, was.teacher
        found = []
        if ours["identity"] != theirs["identity"]:
            found = _changed("teacher.", ours, theirs, ("path", "revision"))
            found = found or [f"the weights of teacher.path={ours['path']} (they were others)"]
        found += _changed("teacher.", ours, theirs, ("dtype",)) + _changed("", ours, theirs, ("quantization",))
        if self.codec["name"] != was.codec["name"]:
            found += [f"codec={self.codec['name']} (was {was.codec['name']})"]
        else:
            found += _changed("codec.", self.codec, was.codec, tuple(self.codec))
        if self.entries_hash != was.entries_hash:
            read = _changed("", self.reading, was.reading, tuple(self.reading))
            found += read or [f"the rows of dataset.path={self.reading['dataset.path']} (they were others)"]
        found += _changed("", asdict(self), asdict(was), ("vocabulary", "seed", "shard_rows"))
        assert found
        return found


@dataclass(frozen=True, kw_only=True)
class Manifest(Plan):
    """What a finished cache is. `files` are the sha256 of its other files, by name; `fidelity` is what decoding costs,
    measured on the first held-out entries (None: not measured)."""

    files: dict[str, str]
    shards: tuple[ShardFile, ...]
    fidelity: dict[str, Any] | None = None

    @property
    def plan(self) -> Plan:
        """What it was before the first shard."""
        return Plan(**{field.name: getattr(self, field.name) for field in fields(Plan)})

    @property
    def bytes(self) -> int:
        """Of all shards."""
        return sum(shard.bytes for shard in self.shards)

    @property
    def bytes_per_row(self) -> float:
        return self.bytes / max(self.counts["rows"], 1)


def checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def to_json(plan: Plan) -> bytes:
    """A plan or manifest as it lies on disk, with a checksum of itself."""
    content = asdict(plan)
    content = {"identity": plan.identity, **content, "checksum": checksum(content)}
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def read_manifest(path: str, *, option: str = "teacher.path") -> Manifest:
    """The manifest of the finished cache at `path`, which `option` names. Raises FileNotFoundError or ValueError where
    there is none, saying what there is and how to go on."""
    return manifest_in(open_storage(path, option=option), named=f"{option}={path}")


def manifest_in(storage: Storage, *, named: str) -> Manifest:
    """As `read_manifest`, of an open place; `named` is what the user called it."""
    content = _content(storage, MANIFEST, named)
    if content is None:
        raise _unfinished(storage, named)
    return _made(Manifest, content, f"{named}: {MANIFEST}")


def read_plan(storage: Storage, *, named: str) -> Plan | None:
    """The plan of a cache that is being made, or of a finished one; None where there is neither. Raises ValueError for
    one that cannot be read."""
    for name in (MANIFEST, PLAN, MANIFEST):  # whoever finishes it meanwhile writes the one, then removes the other
        content = _content(storage, name, named)
        if content is not None:
            return _made(Manifest if name == MANIFEST else Plan, content, f"{named}: {name}")
    return None


P = TypeVar("P", bound=Plan)


def _content(storage: Storage, name: str, named: str) -> dict[str, Any] | None:
    try:
        content = json.loads(storage.read(name))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise ValueError(f"{named}: {name} is damaged ({error}); {AGAIN}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{named}: {name} is damaged (no object); {AGAIN}")
    return content


def _made(kind: type[P], content: dict[str, Any], named: str) -> P:
    version = content.get("version")
    if version != VERSION:
        raise ValueError(f"{named} has format {version}, and this kdlab reads format {VERSION}; write the cache again")
    names = {field.name for field in fields(kind)}
    kept = {name: value for name, value in content.items() if name in names}
    if checksum(kept) != content.get("checksum") or kept.keys() != names:
        raise ValueError(f"{named} does not have the checksum that it names: it was edited or is damaged; {AGAIN}")
    if "shards" in kept:
        kept["shards"] = tuple(ShardFile(**shard) for shard in kept["shards"])
        for name in (*kept["files"], *(shard.name for shard in kept["shards"])):
            if name.startswith("/") or "\\" in name or ".." in name.split("/"):
                raise ValueError(f"{named} names a file outside its folder: {name}")
    return kind(**kept)


def _unfinished(storage: Storage, named: str) -> ValueError | FileNotFoundError:
    """Why there is no manifest."""
    plan = read_plan(storage, named=named)
    if plan is None:
        what = "no cache of signals (it has no manifest.json)"
        if isinstance(storage, Folder) and storage.root.is_file():
            return FileNotFoundError(f"{named}: is a file; give the folder that `kdlab cache` wrote")
        if isinstance(storage, Folder) and not storage.root.is_dir():
            what = "no such folder"
        return FileNotFoundError(f"{named}: {what}; `kdlab cache ... {typed('output', str(storage))}` writes one")
    there = sum(name.startswith("shard-") for name in storage.names())
    command = " ".join(["kdlab cache", *map(shlex.quote, plan.command), typed("output", str(storage))])
    return ValueError(
        f"{named}: the cache is not finished, {there} of {plan.counts['shards']} shards are there; finish it by: "
        f"{command}"
    )


def typed(option: str, path: str) -> str:
    """A path as the value of an option, to be typed into a shell: Hydra reads `=` and `,` as its own unless quoted."""
    inner = f'{option}="{path}"' if any(sign in path for sign in "=,{}[]() '") else f"{option}={path}"
    return shlex.quote(inner)


def _changed(prefix: str, ours: dict[str, Any], theirs: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    """What differs between two tables of options, as a user types them."""
    pairs = [(name, ours.get(name), theirs.get(name)) for name in names]
    return [f"{prefix}{name}={_word(mine)} (was {_word(was)})" for name, mine, was in pairs if mine != was]


def _word(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
