"""A file is there whole or not at all, near or far away."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from kdlab.teachers.cache.storage import Folder, Remote, Storage, free_bytes, open_storage


@pytest.fixture(params=["folder", "file", "memory", "moved"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return open_storage(str(tmp_path / "a"), option="output")
    if request.param == "file":
        return open_storage(f"file://{tmp_path}/a", option="output")
    if request.param == "memory":
        return open_storage(f"memory://{request.node.name}/{tmp_path.name}", option="output")
    # a remote file system on which a file that is being written can be seen
    return Remote(f"local://{tmp_path}/b", fsspec.filesystem("file", auto_mkdir=True), f"{tmp_path}/b")


def test_files_of_any_place(place: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "kdlab"))
    assert place.names() == []
    assert place.size("shard") is None
    with pytest.raises(FileNotFoundError):
        place.read("shard")
    place.write("shard", b"abc")
    place.write("tokenizer/vocab", b"12345")
    place.write("shard", b"abcd")
    assert place.sizes() == {"shard": 4, "tokenizer/vocab": 5}
    assert place.read("shard") == b"abcd"
    assert place.local("shard", label="x").read_bytes() == b"abcd"
    assert place.local("tokenizer/vocab", label="x").name == "vocab"
    place.remove("shard")
    place.remove("shard")
    assert place.names() == ["tokenizer/vocab"]
    assert (free_bytes(place) is None) == isinstance(place, Remote)


def test_a_file_far_away_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path))
    place = open_storage("memory://once", option="output")
    place.write("shard", b"abc")
    first = place.local("shard", label="x")
    place.write("shard", b"other")
    assert place.local("shard", label="x") == first
    assert first.read_bytes() == b"abc"
    assert place.local("shard", label="another cache").read_bytes() == b"other"


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Folder(tmp_path)
    place.write("shard", b"whole")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            place.write("shard", b"other")
    assert place.read("shard") == b"whole"
    assert os.listdir(tmp_path) == ["shard"]


def test_what_the_dead_were_writing_is_swept(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    place.write("shard", b"whole")
    mine = Folder(tmp_path / "x")
    mine.write("a", b"")
    child = os.fork()
    if child == 0:  # dies in the middle of a write
        os.fsync = lambda descriptor: os._exit(1)  # type: ignore[assignment]
        place.write("other", b"half")
        os._exit(0)
    os.waitpid(child, 0)
    assert place.names() == ["shard", "x/a"]
    assert len(os.listdir(tmp_path)) == 3
    place.sweep()
    assert sorted(os.listdir(tmp_path)) == ["shard", "x"]


def test_a_protocol_that_nobody_speaks() -> None:
    with pytest.raises(ValueError, match="output=nosuch://a: fsspec cannot open nosuch://"):
        open_storage("nosuch://a", option="output")
