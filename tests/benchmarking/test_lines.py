from __future__ import annotations

import threading
from pathlib import Path

import pytest

from kdlab.benchmarking.lines import Lines, key_of


def test_lines_are_there_for_the_next_process(tmp_path: Path) -> None:
    file = Lines(tmp_path / "new" / "kept.jsonl")
    file.add([{"key": "a", "n": 1}, {"key": "b", "n": 2}])
    file.add([{"key": "a", "n": 3}])
    for kept in (file, Lines(file.path)):
        assert kept.of("a") == [{"key": "a", "n": 1}, {"key": "a", "n": 3}]
        assert kept.of("c") == []


def test_a_torn_line_is_dropped_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kept.jsonl"
    path.write_bytes(b'{"key": "a"}\n{"key": "b", "te')
    file = Lines(path)
    assert "torn" in capsys.readouterr().err
    file.add([{"key": "c"}])
    assert path.read_bytes() == b'{"key": "a"}\n{"key": "c"}\n'
    path.write_bytes(b'{"ke')
    assert Lines(path).of("a") == []
    assert path.read_bytes() == b""


@pytest.mark.parametrize("line", [b'{"key": "a"', b'{"kei": "a"}', b"[]", b""])
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "kept.jsonl"
    path.write_bytes(b'{"key": "a"}\n' + line + b'\n{"key": "b"}\n')
    with pytest.raises(ValueError, match=r"kept.jsonl, line 2: damaged"):
        Lines(path)


def test_threads_share_a_file(tmp_path: Path) -> None:
    file = Lines(tmp_path / "kept.jsonl")
    threads = [threading.Thread(target=file.add, args=([{"key": str(n), "n": n}],)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(Lines(file.path).of(str(n)) == [{"key": str(n), "n": n}] for n in range(20))


def test_a_key_is_of_the_content() -> None:
    assert key_of("a", 1, ["b"]) == key_of("a", 1, ("b",)) != key_of("a", 1, ["c"])
    assert key_of("ab", "c") != key_of("a", "bc")
