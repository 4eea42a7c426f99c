"""Files stay whole, and a folder has one owner, whatever happens to a process."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from kdlab.durable import FolderLock, disk_is_full, read_json, replace_folder, write_atomically, write_json


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})

    def fails(file):
        file.write(b"half of the new")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, fails)
    assert read_json(path) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_json_keeps_every_bit_of_a_float(tmp_path):
    values = [0.1 + 0.2, 1e-320, 2**0.5, float("inf")]
    write_json(tmp_path / "a.json", values)
    assert read_json(tmp_path / "a.json") == values


def test_a_list_of_numbers_has_one_line_and_everything_else_its_own(tmp_path):
    content = {
        "confusion": [[1, -2, 3e-07], [None, True, float("nan")]],
        "names": ["[\n1,\n2\n]", "b] ["],
        "none": [],
        "parts": [{"rows": [1]}, {}],
        "mixed": [1, "two", [3, 4]],
    }
    write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text()
    assert repr(read_json(tmp_path / "a.json")) == repr(content)
    assert [line.strip() for line in text.splitlines()] == [
        *("{", '"confusion": [', "[1, -2, 3e-07],", "[null, true, NaN]", "],"),
        *('"names": [', '"[\\n1,\\n2\\n]",', '"b] ["', "],", '"none": [],'),
        *('"parts": [', "{", '"rows": [1]', "},", "{}", "],"),
        *('"mixed": [', "1,", '"two",', "[3, 4]", "]", "}"),
    ]


def test_the_record_of_many_classes_stays_small(tmp_path):
    write_json(tmp_path / "a.json", {"confusion": [[0] * 77 for _ in range(77)]})
    assert (tmp_path / "a.json").stat().st_size < 3.1 * 77 * 77
    assert len((tmp_path / "a.json").read_text().splitlines()) == 77 + 4


def test_no_file_and_half_a_file_read_as_nothing(tmp_path):
    assert read_json(tmp_path / "a.json") is None
    (tmp_path / "a.json").write_text('{"x": [1, 2')
    assert read_json(tmp_path / "a.json") is None


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "model"
    replace_folder(folder, lambda new: (new / "old").write_text("1"))

    def fails(new):
        (new / "half").write_text("2")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        replace_folder(folder, fails)
    assert [p.name for p in folder.iterdir()] == ["old"]
    replace_folder(folder, lambda new: (new / "new").write_text("3"))
    assert [p.name for p in folder.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def _hold(folder: Path, holding: object) -> None:
    with FolderLock(folder):
        holding.set()  # type: ignore[attr-defined]
        signal.pause()


def _wait(forked: object) -> None:
    forked.set()  # type: ignore[attr-defined]
    signal.pause()


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    context = multiprocessing.get_context("fork")
    holding = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, holding))
    holder.start()
    try:
        assert holding.wait(10)
        with pytest.raises(ValueError, match=rf"another process \(process {holder.pid} on .*\) is running here"):
            FolderLock(tmp_path).__enter__()
        os.kill(holder.pid, signal.SIGKILL)
        holder.join()
        with FolderLock(tmp_path):
            pass
    finally:
        holder.kill()
        holder.join()


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    context = multiprocessing.get_context("fork")
    forked = context.Event()
    with FolderLock(tmp_path):
        child = context.Process(target=_wait, args=(forked,))
        child.start()
        assert forked.wait(10)
    try:
        with FolderLock(tmp_path):
            assert child.is_alive()
    finally:
        child.kill()
        child.join()


def test_a_full_disk_is_told_from_other_errors():
    assert disk_is_full(OSError(errno.ENOSPC, "No space left on device"))
    assert disk_is_full(OSError(errno.EDQUOT, "Disk quota exceeded"))
    assert disk_is_full(RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"))
    assert disk_is_full(RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"))
    assert not disk_is_full(OSError(errno.EACCES, "Permission denied"))
    assert not disk_is_full(RuntimeError("CUDA error: out of memory"))
    caused = RuntimeError("something else")
    caused.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert disk_is_full(caused)
