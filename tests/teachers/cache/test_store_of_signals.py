"""Signals come back by content, from anywhere, and nothing damaged is read."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdlab.rows import Projected
from kdlab.teachers.cache.manifest import checksum, read_manifest
from kdlab.teachers.cache.shards import Shard, shard_bytes
from kdlab.teachers.cache.store import KEY, Index, SignalCache, codec_of, head_bytes, read_head, told_of
from kdlab.teachers.codecs import CODECS


def keys_in(path: Path) -> list[bytes]:
    """All keys of a cache, read shard by shard."""
    manifest = read_manifest(str(path))
    found = []
    for number, told in enumerate(manifest.shards):
        shard = Shard(path / told.name, identity=manifest.identity, number=number)
        found += [key.tobytes() for key in shard.keys]
    return found


def test_any_entries_in_any_order(original: Path) -> None:
    kept, keys = SignalCache(str(original)), keys_in(original)
    assert len(kept) == len(keys) == kept.manifest.counts["entries"]
    whole = kept.signal(keys)
    assert isinstance(whole, Projected)
    assert len(whole) == kept.manifest.counts["rows"]
    assert whole.vocabulary == kept.vocabulary == 259
    lengths = [len(kept.signal([key])) for key in keys]
    order = np.random.default_rng(0).permutation(len(keys))
    parts = whole.hidden_NH.split(lengths)
    shuffled = kept.signal([keys[i] for i in order])
    assert isinstance(shuffled, Projected)
    torch.testing.assert_close(shuffled.hidden_NH, torch.cat([parts[i] for i in order]), atol=0, rtol=0)


def test_a_key_that_is_not_there(original: Path) -> None:
    kept, [first, *_] = SignalCache(str(original)), keys_in(original)
    other = bytes(16)
    assert first in kept
    assert other not in kept
    assert "text" not in kept
    with pytest.raises(KeyError) as missing:
        kept.signal([first, other])
    assert missing.value.args == (other,)


def test_it_is_pickled_by_its_place(original: Path) -> None:
    kept, keys = SignalCache(str(original), option="model.path"), keys_in(original)
    kept.signal(keys)
    sent = pickle.dumps(kept)
    assert len(sent) < 1000
    again = pickle.loads(sent)
    assert again.option == "model.path"
    assert torch.equal(again.signal(keys[:2]).hidden_NH, kept.signal(keys[:2]).hidden_NH)  # type: ignore[union-attr]


def test_it_brings_the_tokenizer_and_the_head(original: Path) -> None:
    kept = SignalCache(str(original))
    tokenizer = kept.tokenizer()
    assert tokenizer.decode(tokenizer("any text")["input_ids"]) == "any text"
    assert tokenizer.chat_template is not None
    assert kept.head is not None
    assert kept.head.weight_VH.shape == (259, 64)
    assert len(kept.head) == 0
    assert kept.disk_bytes == sum(file.stat().st_size for file in original.glob("shard-*"))


@pytest.mark.parametrize(
    ("bias", "scale", "softcap", "dtype"), [(True, 1.0, None, torch.bfloat16), (False, 0.25, 30.0, torch.float32)]
)
def test_a_head_comes_back_as_it_was(
    tmp_path: Path, bias: bool, scale: float, softcap: float | None, dtype: torch.dtype
) -> None:
    weight_VH, bias_V = torch.randn(7, 3).to(dtype), torch.randn(7).to(dtype) if bias else None
    side = Projected(hidden_NH=torch.zeros(2, 3), weight_VH=weight_VH, bias_V=bias_V, scale=scale, softcap=softcap)
    assert head_bytes(side) == head_bytes(side)
    (tmp_path / "head").write_bytes(head_bytes(side))
    head = read_head(tmp_path / "head")
    assert torch.equal(head.weight_VH, weight_VH)
    assert (head.bias_V is None) == (not bias)
    assert bias_V is None or torch.equal(head.bias_V, bias_V)  # type: ignore[arg-type]
    assert (head.scale, head.softcap, head.weight_VH.dtype, len(head)) == (scale, softcap, dtype, 0)


@given(st.lists(st.binary(min_size=16, max_size=16), unique=True, max_size=40), st.binary(min_size=16, max_size=16))
def test_the_index_finds_every_key_and_no_other(keys: list[bytes], other: bytes) -> None:
    """Against a dictionary; zero bytes anywhere in a key too."""
    order = sorted(range(len(keys)), key=lambda i: keys[i])
    numbers = np.arange(len(keys), dtype=np.int32)
    index = Index(np.array([keys[i] for i in order], KEY), shards=numbers, entries=numbers, rows=numbers)
    wanted = {keys[i]: place for place, i in enumerate(order)}
    asked = [*keys, other]
    assert index.find(asked).tolist() == [wanted.get(key, -1) for key in asked]


@given(st.lists(st.binary(max_size=50), max_size=12))
def test_a_shard_holds_what_was_put_in(tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes]) -> None:
    file = tmp_path_factory.mktemp("shard") / "shard-00003.safetensors"
    keys = [bytes([i]) * 16 for i in range(len(payloads))]
    rows = [len(payload) + 1 for payload in payloads]
    file.write_bytes(shard_bytes(payloads, rows=rows, keys=keys, identity="a", number=3))
    shard = Shard(file, identity="a", number=3)
    assert [bytes(shard.entry(i)) for i in range(len(shard))] == payloads
    assert shard.rows.tolist() == rows
    assert [key.tobytes() for key in shard.keys] == keys
    assert shard.damaged() == []
    for identity, number in (("b", 3), ("a", 2)):
        with pytest.raises(ValueError, match="is a shard of another cache"):
            Shard(file, identity=identity, number=number)


def test_any_safetensors_reader_reads_a_shard(tmp_path: Path) -> None:
    from safetensors.numpy import load

    found = load(shard_bytes([b"abc", b"", b"de"], rows=[1, 0, 2], keys=[b"k" * 16] * 3, identity="a", number=0))
    assert found["payload"].tobytes() == b"abcde"
    assert found["offsets"].tolist() == [0, 3, 3, 5]


def test_a_flipped_bit_is_named_when_it_is_read(finished: Path) -> None:
    keys = keys_in(finished)
    file = finished / "shard-00001.safetensors"
    flip_in_payload(file, entry=2)
    kept, manifest = SignalCache(str(finished)), read_manifest(str(finished))
    first = manifest.shards[0].entries
    assert len(kept.signal(keys[: first + 2])) > 0
    with pytest.raises(ValueError, match=r"shard-00001\.safetensors: entry 2 is damaged"):
        kept.signal(keys)


@pytest.mark.parametrize("name", ["index.safetensors", "head.safetensors", "tokenizer/tokenizer.json"])
def test_a_flipped_bit_beside_the_shards_is_named_when_it_is_read(finished: Path, name: str) -> None:
    keys = keys_in(finished)
    content = bytearray((finished / name).read_bytes())
    content[-3] ^= 4
    (finished / name).write_bytes(content)

    def read() -> None:
        kept = SignalCache(str(finished))
        kept.signal(keys)
        kept.tokenizer()

    with pytest.raises(ValueError, match=rf"{name}: is damaged \(its sha256 differs from the manifest's\); delete it"):
        read()


def test_an_entry_is_that_of_its_key(finished: Path) -> None:
    kept, keys = SignalCache(str(finished)), keys_in(finished)
    kept._index.entries = kept._index.entries[::-1]
    with pytest.raises(ValueError, match=r"shard-.*: entry \d+ is another's than the index says"):
        kept.signal(keys)


@pytest.mark.parametrize("name", ["../shard-00000.safetensors", "/shard-00000.safetensors", "a/../../b"])
def test_a_manifest_names_no_file_outside_its_folder(finished: Path, name: str) -> None:
    file = finished / "manifest.json"
    content = json.loads(file.read_text())
    content["shards"][0]["name"] = name
    content["checksum"] = checksum({k: v for k, v in content.items() if k not in ("identity", "checksum")})
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"manifest.json names a file outside its folder: {name}"):
        SignalCache(str(finished))


def flip_in_payload(file: Path, *, entry: int) -> None:
    shard_meta = json.loads(file.read_bytes()[8 : 8 + int.from_bytes(file.read_bytes()[:8], "little")])
    begin = 8 + int.from_bytes(file.read_bytes()[:8], "little") + shard_meta["payload"]["data_offsets"][0]
    from safetensors.numpy import load

    content = bytearray(file.read_bytes())
    content[begin + int(load(bytes(content))["offsets"][entry]) + 1] ^= 16
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        ("cut", "shard-00001.safetensors has "),
        ("gone", "shard-00001.safetensors is missing"),
        ("edited", "manifest.json does not have the checksum that it names: it was edited or is damaged"),
        ("garbage", "manifest.json is damaged"),
        ("format", "manifest.json has format 99, and this kdlab reads format 1"),
        ("index", "index.safetensors is missing; "),
        ("empty", "no cache of signals (it has no manifest.json)"),
        ("nowhere", "no such folder"),
    ],
)
def test_what_is_not_whole_is_not_opened(finished: Path, damage: str, part: str) -> None:
    file, manifest = finished / "shard-00001.safetensors", finished / "manifest.json"
    content = json.loads(manifest.read_text())
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "gone":
        file.unlink()
    elif damage == "edited":
        manifest.write_text(json.dumps(content | {"vocabulary": 258}))
    elif damage == "garbage":
        manifest.write_text("{")
    elif damage == "format":
        manifest.write_text(json.dumps(content | {"version": 99}))
    elif damage == "index":
        (finished / "index.safetensors").unlink()
    elif damage == "empty":
        manifest.unlink()
    else:
        shutil.rmtree(finished)
    with pytest.raises((ValueError, FileNotFoundError)) as refused:
        SignalCache(str(finished))
    assert str(refused.value).startswith(f"teacher.path={finished}: ")
    assert part in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_codec_of_another_version_is_refused(finished: Path) -> None:
    file = finished / "manifest.json"
    content = json.loads(file.read_text())
    content["codec"]["version"] += 1
    content["checksum"] = checksum({k: v for k, v in content.items() if k not in ("identity", "checksum")})
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="was written by codec=hidden version 2, and this kdlab knows version 1 of it"):
        SignalCache(str(finished))
    with pytest.raises(ValueError, match="codec=wavelets version 1, and this kdlab knows hidden, "):
        codec_of({"name": "wavelets", "version": 1}, named="here")


@pytest.mark.parametrize("kind", CODECS.values(), ids=CODECS)
def test_every_codec_is_told_and_made_again(kind: type) -> None:
    codec = kind()
    told = json.loads(json.dumps(told_of(codec)))
    assert codec_of(told, named="here") == codec
    assert dataclasses.asdict(codec).items() <= told.items()
