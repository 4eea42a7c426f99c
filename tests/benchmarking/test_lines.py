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


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A file of three lines."""
    path = tmp_path / "kept.jsonl"
    Lines(path).add([{"key": "a", "n": 1}, {"key": "b", "n": 2.5}, {"key": "c", "says": ["‘", None]}])
    return path


def test_a_torn_line_is_dropped_and_said(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = kept.read_bytes()
    whole = content[: content[:-1].rindex(b"\n") + 1]
    for cut in range(len(whole) + 1, len(content) - 1):
        kept.write_bytes(content[:cut])
        file = Lines(kept)
        assert "torn" in capsys.readouterr().err
        assert (len(file.of("b")), file.of("c")) == (1, [])
        assert kept.read_bytes() == whole
    Lines(kept).add([{"key": "c", "says": ["‘", None]}])
    assert kept.read_bytes() == content


def test_a_line_without_its_break_is_whole(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = kept.read_bytes()
    kept.write_bytes(content[:-1])
    assert Lines(kept).of("c") == [{"key": "c", "says": ["‘", None]}]
    assert kept.read_bytes() == content
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("line", ['{"key": "b"', '{"key": "b", "n": 2.5}', '{"kei": "a"}', "[]", "1", "\ufeff{}"])
def test_a_damaged_line_is_named(kept: Path, line: str) -> None:
    first, _, *rest = kept.read_text().split("\n")
    kept.write_text("\n".join([first, line, *rest]))
    with pytest.raises(ValueError, match=r"kept.jsonl, line 2: damaged or edited; take the line out") as error:
        Lines(kept)
    assert "\n" not in str(error.value)
    kept.write_text("\n".join([first, "", *rest]))
    assert [len(Lines(kept).of(key)) for key in "abc"] == [1, 0, 1], "the remedy is one"


def test_an_edited_line_is_named(kept: Path) -> None:
    kept.write_text(kept.read_text().replace("2.5", "9.5"))
    with pytest.raises(ValueError, match=r"line 2: damaged or edited"):
        Lines(kept)


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
