"""Every kind of damage is found, and named by its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import load

from kdlab.teachers.cache.manifest import checksum
from kdlab.teachers.cache.shards import shard_bytes
from kdlab.teachers.cache.verify import verify


def test_a_whole_cache_has_no_damage(original: Path) -> None:
    seen: list[str] = []
    assert verify(str(original), seen=seen.append) == []
    files = {file.relative_to(original).as_posix() for file in original.rglob("*") if file.is_file()}
    assert {*seen, "manifest.json"} == {name for name in files if not name.startswith((".", "cache.json"))}


def test_each_bit_of_a_shard_matters(finished: Path) -> None:
    file = finished / "shard-00001.safetensors"
    whole = file.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        content = bytearray(whole)
        content[place] ^= 1
        file.write_bytes(content)
        damage = verify(str(finished))
        assert damage
        assert all(line.startswith("shard-00001.safetensors: ") for line in damage)


def test_a_shard_that_lacks_an_array(finished: Path) -> None:
    file = finished / "shard-00001.safetensors"
    file.write_bytes(file.read_bytes().replace(b'"payload"', b'"pazload"'))
    assert verify(str(finished)) == ["shard-00001.safetensors: it is no shard (it has no payload)"]


def test_a_flipped_bit_is_named_by_its_entry(finished: Path) -> None:
    file = finished / "shard-00000.safetensors"
    content = bytearray(file.read_bytes())
    found = load(bytes(content))
    begin = content.find(found["payload"].tobytes())
    content[begin + int(found["offsets"][1])] ^= 128
    file.write_bytes(content)
    key = found["keys"][1].tobytes().hex()
    assert verify(str(finished)) == [f"shard-00000.safetensors: entry 1 (key {key}) is damaged: its checksum differs"]


@pytest.mark.parametrize("name", ["head.safetensors", "index.safetensors", "tokenizer/tokenizer.json"])
def test_what_lies_beside_the_shards(finished: Path, name: str) -> None:
    content = bytearray((finished / name).read_bytes())
    content[-2] ^= 1
    (finished / name).write_bytes(content)
    assert verify(str(finished)) == [f"{name}: is damaged (its sha256 differs from the manifest's)"]
    (finished / name).unlink()
    assert verify(str(finished)) == [f"{name}: is missing"]


def test_shards_that_are_cut_short_missing_or_foreign(finished: Path) -> None:
    first, second, third = (finished / f"shard-0000{i}.safetensors" for i in range(3))
    first.write_bytes(first.read_bytes()[:-7])
    second.unlink()
    third.write_bytes(shard_bytes([b"a"], rows=[1], keys=[b"k" * 16], identity="other", number=2))
    size = third.stat().st_size
    third.write_bytes(third.read_bytes() + b"\0" * 100_000)
    (finished / "shard-00099.safetensors").write_bytes(b"")
    damage = "\n".join(verify(str(finished)))
    assert size < third.stat().st_size
    assert "shard-00000.safetensors: is cut short: " in damage
    assert "shard-00001.safetensors: is missing (" in damage
    assert "shard-00002.safetensors: is a shard of another cache" in damage
    assert "shard-00099.safetensors: is no shard of this cache" in damage


def test_an_edited_manifest(finished: Path) -> None:
    file = finished / "manifest.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"seed": 5}))
    assert "was edited or is damaged" in verify(str(finished))[0]
    del content["shards"][-1]  # by somebody who knows what he does
    content["checksum"] = checksum({k: v for k, v in content.items() if k not in ("identity", "checksum")})
    file.write_text(json.dumps(content))
    damage = "\n".join(verify(str(finished)))
    assert (
        f"manifest.json: names {len(content['shards'])} shards, and {len(content['shards']) + 1} were planned" in damage
    )
    assert "is no shard of this cache" in damage


def test_a_place_without_a_cache(tmp_path: Path) -> None:
    assert verify(str(tmp_path)) == [
        f"{tmp_path}: no cache of signals (it has no manifest.json); `kdlab cache ... output={tmp_path}` writes one"
    ]
