"""What weights a model has, as one hash: of its files where it lies on a disk, of its tensors where it is in memory.

    source_hash(resolve("HuggingFaceTB/SmolLM2-135M-Instruct"))  # no weight is loaded

The hash of a file is kept in the cache folder, under its place, size and time of change: 100 GB are read once.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.models.places import cache_folder
from kdlab.models.tiny import tiny_model

if TYPE_CHECKING:
    from kdlab.models.source import Source

BLOCK = 2**24


def source_hash(source: Source) -> str:
    """The hash of what a source predicts with: sha256 over the sha256 of its safetensors files, in the order of their
    names, and of its config.json, which may scale or cap the same weights otherwise. Of an adapter: sha256 over that
    of its base model, its own files and its adapter_config.json.

    Raises FileNotFoundError for a hub model that has not been downloaded yet.
    """
    from kdlab.models.source import weight_folder

    if source.kind == "tiny":
        return weight_hash(tiny_model(source.location.removeprefix("tiny:")))
    folder = weight_folder(source)
    files = sorted(folder.glob("*.safetensors")) if folder is not None else []
    if not files:
        raise FileNotFoundError(f"{source.description}: its weights are not here yet, so they have no hash")
    shape = files[0].with_name("config.json" if source.base is None else "adapter_config.json")
    files += [shape] if shape.is_file() else []
    under = "" if source.base is None else source_hash(source.base)
    return hashlib.sha256((under + "".join(file_hash(file) for file in files)).encode()).hexdigest()


def weight_hash(model: Any) -> str:
    """The hash of a model's parameters and buffers as they are in memory: name, number format, shape and bytes."""
    return tensors_hash(model.state_dict().items())


def tensors_hash(named: Iterable[tuple[str, Any]]) -> str:
    """The hash of plain tensors with their names, in any order; what is no tensor is passed over."""
    import torch

    digest = hashlib.sha256()
    for name, weight in sorted(named, key=lambda pair: pair[0]):
        if isinstance(weight, torch.Tensor):
            plain = weight.detach().to("cpu").contiguous()
            digest.update(f"{name} {plain.dtype} {tuple(plain.shape)} ".encode())
            digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_hash(file: Path) -> str:
    """sha256 of a file, read once: as long as it lies in its place with the same size and time of change."""
    seen = file.stat()
    place = f"{file.resolve()} {seen.st_size} {seen.st_mtime_ns}"
    note = cache_folder() / "weights" / f"{hashlib.sha256(place.encode()).hexdigest()[:32]}.sha256"
    with suppress(OSError, ValueError):
        kept = note.read_text(encoding="ascii").strip()
        if len(kept) == 64:
            return kept
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(BLOCK):
            digest.update(block)
    found = digest.hexdigest()
    with suppress(OSError):  # where nothing can be kept, it is read again
        note.parent.mkdir(parents=True, exist_ok=True)
        beside = note.with_name(f".{note.name}.{os.getpid()}")
        beside.write_text(found + "\n", encoding="ascii")
        beside.replace(note)
    return found
