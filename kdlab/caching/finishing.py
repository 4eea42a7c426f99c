"""The end of a cache: every shard is read once more, what decoding costs is measured, and the manifest is written."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kdlab.caching.fidelity import fidelity
from kdlab.caching.filling import Filling, claim
from kdlab.caching.planning import batches
from kdlab.rows import Dense, Projected
from kdlab.teachers.cache.manifest import HEAD, INDEX, MANIFEST, PLAN, TOKENIZER, Manifest, Plan, manifest_in, to_json
from kdlab.teachers.cache.shards import Shard, shard_name
from kdlab.teachers.cache.store import read_head

if TYPE_CHECKING:
    from kdlab.caching.asking import Asked
    from kdlab.rows import Signal


def finish(filling: Filling, asked: Asked, plan: Plan, *, fidelity_rows: int) -> Manifest:
    """Write the manifest, unless another process has. A shard that is found damaged is made again."""
    storage = filling.storage
    with claim(storage, "manifest", wait=True):
        if storage.size(MANIFEST) is not None and not filling.missing():
            return manifest_in(storage, named=f"output={storage}")
        while len(shards := filling.check()) < len(filling.layout):
            filling.fill()
        filling.ensure_head()
        index = filling.layout.index(asked).write()
        if storage.size(INDEX) is None or storage.read(INDEX) != index:
            storage.write(INDEX, index)
        manifest = Manifest(
            **{field.name: getattr(plan, field.name) for field in fields(Plan)},
            files={name: hashlib.sha256(storage.read(name)).hexdigest() for name in beside(filling)},
            shards=tuple(shards),
            fidelity=measured(filling, asked, rows=fidelity_rows),
        )
        storage.write(MANIFEST, to_json(manifest))
        storage.remove(PLAN)
    return manifest


def beside(filling: Filling) -> list[str]:
    """The files of the cache besides its shards."""
    wanted = [name for name in filling.storage.names() if name.startswith(f"{TOKENIZER}/")]
    return [*wanted, INDEX, *([HEAD] if filling.keeps_head else [])]


def measured(filling: Filling, asked: Asked, *, rows: int) -> dict[str, Any] | None:
    """What decoding costs, on the first entries that have `rows` rows together (held-out ones, as far as there are).
    None where nothing is to be measured (0 rows), and where the teacher does not tell its whole distribution."""
    count = min(int(np.searchsorted(np.cumsum(asked.rows), rows)) + 1, len(asked)) if rows else 0
    sides, entries = [], []
    for chosen in batches(asked.lengths[:count], tokens=filling.plan.batch_tokens):
        side = filling.signal(chosen)
        if not isinstance(side, Dense | Projected):
            return None
        sides.append(side)
        entries += chosen
    if not sides:
        return None
    found = fidelity(_together(sides), _decoded(filling, asked, entries))
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in found.items()}


def _together(sides: list[Dense | Projected]) -> Dense | Projected:
    """The rows of all sides, on the CPU."""
    first = sides[0]
    if isinstance(first, Dense):
        return Dense(logits_NV=torch.cat([side.logits_NV.cpu() for side in sides if isinstance(side, Dense)]))
    hidden_NH = torch.cat([side.hidden_NH.cpu() for side in sides if isinstance(side, Projected)])
    bias_V = None if first.bias_V is None else first.bias_V.cpu()
    return replace(first, hidden_NH=hidden_NH, weight_VH=first.weight_VH.cpu(), bias_V=bias_V)


def _decoded(filling: Filling, asked: Asked, entries: list[int]) -> Signal:
    """What the cache says of these entries."""
    layout, storage, identity = filling.layout, filling.storage, filling.plan.identity
    opened: dict[int, Shard] = {}
    payloads = []
    for entry in entries:
        number = int(np.searchsorted(layout.edges, entry, side="right")) - 1
        if number not in opened:
            file = storage.local(shard_name(number), label=identity)
            opened[number] = Shard(file, identity=identity, number=number)
        payloads.append(opened[number].entry(entry - layout.edges[number]))
    head = read_head(storage.local(HEAD, label=identity)) if filling.keeps_head else None
    lengths = asked.rows[entries].tolist()
    return filling.codec.decode(payloads, lengths=lengths, vocabulary=filling.plan.vocabulary, head=head)
