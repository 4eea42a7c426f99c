"""A hash of weights: the same for the same content, wherever it lies, and read once."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

from kdlab.models.source import resolve
from kdlab.models.tiny import save_tiny, tiny_model
from kdlab.models.weights_hash import file_hash, source_hash, weight_hash


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "kdlab"))


def test_of_files(tmp_path: Path) -> None:
    first, same, other = (
        save_tiny("llama", tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    found = [source_hash(resolve(str(folder))) for folder in (first, same, other)]
    assert found[0] == found[1] != found[2]
    [file] = first.glob("*.safetensors")
    each = hashlib.sha256(file.read_bytes()).hexdigest()
    assert file_hash(file) == each
    shape = hashlib.sha256((first / "config.json").read_bytes()).hexdigest()
    assert found[0] == hashlib.sha256((each + shape).encode()).hexdigest()
    told = json.loads((first / "config.json").read_text())
    (first / "config.json").write_text(json.dumps(told | {"rope_theta": 123.0}))
    assert source_hash(resolve(str(first))) != found[0]


def test_a_file_is_read_once_until_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"abc")
    os.utime(file, ns=(1, 1))
    first = file_hash(file)
    file.write_bytes(b"abd")
    os.utime(file, ns=(1, 1))  # in its place, of the same size and time: taken for the same
    assert file_hash(file) == first
    os.utime(file, ns=(2, 2))
    assert file_hash(file) == hashlib.sha256(b"abd").hexdigest()


def test_where_nothing_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "file"))
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    assert file_hash(tmp_path / "model.safetensors") == hashlib.sha256(b"abc").hexdigest()


def test_of_a_model_in_memory() -> None:
    model = tiny_model("llama")
    first = weight_hash(model)
    assert first == weight_hash(tiny_model("llama")) == source_hash(resolve("tiny:llama"))
    assert first != weight_hash(tiny_model("gpt2"))
    assert first != weight_hash(tiny_model("llama").to(torch.bfloat16))
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-6
    assert weight_hash(model) != first
