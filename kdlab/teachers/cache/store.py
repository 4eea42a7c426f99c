"""A finished cache, to read from: signals by the keys of what was read.

cache = SignalCache("multirun/quickstart/signals/default")
cache.signal([key for key, _ in keys_of(batch)])
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdlab.teachers.cache.keys import BYTES
from kdlab.teachers.cache.manifest import HEAD, INDEX, TOKENIZER, manifest_in
from kdlab.teachers.cache.shards import Shard, file_bytes, mapped
from kdlab.teachers.cache.storage import open_storage

if TYPE_CHECKING:
    from kdlab.rows import Projected, Signal
    from kdlab.teachers.codecs import Codec

KEPT_OPEN = 512
"""Shards that stay mapped: each takes a file handle."""
KEY = np.dtype(f"S{BYTES}")
"""A key as numpy sorts it, byte by byte."""


class SignalCache:
    """Random access to a cache on disk; cheap to open and to pickle, as nothing is read before it is asked for.

    Raises FileNotFoundError or ValueError, naming `option` and what is wrong: a cache that is not finished or of
    another format, a codec that is not known, a file that is missing or of another length.
    """

    def __init__(self, path: str, *, option: str = "teacher.path") -> None:
        self.path, self.option = path, option
        named = f"{option}={path}"
        self._storage = open_storage(path, option=option)
        self.manifest = manifest_in(self._storage, named=named)
        self.codec = codec_of(self.manifest.codec, named=named)
        sizes = self._storage.sizes()
        for shard in self.manifest.shards:
            if (size := sizes.get(shard.name)) != shard.bytes:
                what = "is missing" if size is None else f"has {size:,} bytes, and {shard.bytes:,} were written"
                raise ValueError(f"{named}: {shard.name} {what}; `kdlab cache verify` lists all damage")
        lost = [name for name in self.manifest.files if name not in sizes]
        if lost:
            raise ValueError(f"{named}: {lost[0]} is missing; the `kdlab cache` command that wrote it makes it again")
        self._index = Index.read(self._whole(INDEX))
        self._open: OrderedDict[int, Shard] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(SignalCache, self.path, option=self.option), ()

    @property
    def vocabulary(self) -> int:
        return self.manifest.vocabulary

    @property
    def identity(self) -> str:
        """The hash of all that decides the signals."""
        return self.manifest.identity

    @property
    def disk_bytes(self) -> int:
        return self.manifest.bytes

    def __len__(self) -> int:
        """Entries."""
        return len(self._index.keys)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and self._index.find([key])[0] >= 0

    def signal(self, keys: Sequence[bytes]) -> Signal:
        """The rows of these entries, one after the other, on the CPU. Raises KeyError for the first key that is not
        there, ValueError, naming file and entry, for one whose bytes have changed."""
        places = self._index.find(keys)
        for key, place in zip(keys, places, strict=True):
            if place < 0:
                raise KeyError(key)
        shards, entries = self._index.shards[places].tolist(), self._index.entries[places].tolist()
        found = zip(keys, shards, entries, strict=True)
        payloads = [self._shard(shard).entry(entry, key=key) for key, shard, entry in found]
        lengths = self._index.rows[places].tolist()
        return self.codec.decode(payloads, lengths=lengths, vocabulary=self.vocabulary, head=self.head)

    def tokenizer(self) -> Any:
        """The teacher's tokenizer, as it was saved with the signals."""
        from kdlab.models.loading import load_tokenizer

        files = [self._whole(name) for name in self.manifest.files if name.startswith(f"{TOKENIZER}/")]
        return load_tokenizer(str(files[0].parent), option=self.option)

    @cached_property
    def head(self) -> Projected | None:
        """The teacher's head with no rows, where the codec keeps hidden states."""
        return read_head(self._whole(HEAD)) if HEAD in self.manifest.files else None

    def _whole(self, name: str) -> Any:
        """A file beside the shards, which holds no checksums of its own. Raises ValueError where it has changed."""
        file = self._local(name)
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if found != self.manifest.files[name]:
            raise ValueError(
                f"{file}: is damaged (its sha256 differs from the manifest's); delete it, and the `kdlab cache` "
                "command that wrote it makes it again"
            )
        return file

    def _local(self, name: str) -> Any:
        return self._storage.local(name, label=self.identity)

    def _shard(self, number: int) -> Shard:
        shard = self._open.get(number)
        if shard is None:
            file = self._local(self.manifest.shards[number].name)
            shard = self._open[number] = Shard(file, identity=self.identity, number=number)
            if len(self._open) > KEPT_OPEN:
                self._open.popitem(last=False)
        else:
            self._open.move_to_end(number)
        return shard


class Index:
    """Where each entry lies: its shard, its number there, its rows. `keys` are sorted."""

    def __init__(
        self,
        keys: NDArray[Any],
        *,
        shards: NDArray[np.int32],
        entries: NDArray[np.int32],
        rows: NDArray[np.int32],
    ) -> None:
        self.keys, self.shards, self.entries, self.rows = keys, shards, entries, rows

    def find(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """The place of each key in the index, -1 where it is not there."""
        wanted = np.array(keys, KEY)
        if not len(self.keys):
            return np.full(len(keys), -1)
        places = np.searchsorted(self.keys, wanted)
        places[places == len(self.keys)] = 0
        return np.where(self.keys[places] == wanted, places, -1)

    def write(self) -> bytes:
        """The index as a file."""
        keys = np.ascontiguousarray(self.keys).view(np.uint8).reshape(-1, BYTES)
        return file_bytes({"keys": keys, "shards": self.shards, "entries": self.entries, "rows": self.rows}, {})

    @classmethod
    def read(cls, file: Any) -> Index:
        """Raises ValueError, naming the file, where it is damaged."""
        try:
            arrays = mapped(file).arrays
            keys = arrays["keys"].reshape(-1).view(KEY)
            return cls(keys, shards=arrays["shards"], entries=arrays["entries"], rows=arrays["rows"])
        except (ValueError, KeyError) as error:
            raise ValueError(f"{file}: {error}") from error


def codec_of(told: dict[str, Any], *, named: str) -> Codec:
    """The codec that a manifest names. Raises ValueError for one of another version, or that is not known."""
    from kdlab.teachers.codecs import CODECS

    kind = CODECS.get(told["name"])
    if kind is None or told["version"] != kind.version:
        known = f"version {kind.version} of it" if kind is not None else ", ".join(CODECS)
        raise ValueError(
            f"{named}: was written by codec={told['name']} version {told['version']}, and this kdlab knows {known}; "
            "write the cache again"
        )
    return kind(**{field.name: told[field.name] for field in fields(kind)})


def told_of(codec: Codec) -> dict[str, Any]:
    """A codec as a manifest tells it."""
    options = {field.name: getattr(codec, field.name) for field in fields(codec)}
    return {"name": codec.name, "version": codec.version, **options}


def head_bytes(head: Projected) -> bytes:
    """A teacher's head as a file."""
    import json

    from safetensors.torch import save

    from kdlab.teachers.cache.shards import META

    tensors = {"weight": head.weight_VH} | ({} if head.bias_V is None else {"bias": head.bias_V})
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    meta = json.dumps({"scale": head.scale, "softcap": head.softcap})
    return bytes(save(plain, metadata={META: meta}))


def read_head(file: Any) -> Projected:
    """The head that `head_bytes` wrote, with no rows."""
    import json

    from safetensors import safe_open

    from kdlab.rows import Projected
    from kdlab.teachers.cache.shards import META

    with safe_open(file, framework="pt") as opened:
        names = set(opened.keys())
        meta = json.loads(opened.metadata()[META])
        weight_VH = opened.get_tensor("weight")
        bias_V = opened.get_tensor("bias") if "bias" in names else None
    nothing = weight_VH.new_zeros((0, weight_VH.shape[1]))
    return Projected(hidden_NH=nothing, weight_VH=weight_VH, bias_V=bias_V, **meta)
