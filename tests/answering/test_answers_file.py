"""answers.jsonl: what a killed process left is gone on with, whole batches only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdlab.answering.answers_file import ANSWERS, AnswersFile, Key

BATCHES = [[(4, 0), (2, 0)], [(0, 0), (1, 0)], [(3, 0)]]


def answer(key: Key) -> dict[str, object]:
    return {"row": key[0], "draw": key[1], "text": f"line\nbreak {key} ‘\u2028’"}


def written(folder: Path, *batches: int) -> AnswersFile:
    file = AnswersFile(folder)
    for number in batches:
        file.append([answer(key) for key in BATCHES[number]])
    return file


def test_what_is_missing_and_in_which_order_it_is_read(tmp_path: Path) -> None:
    file = written(tmp_path)
    assert file.resume(BATCHES) == [0, 1, 2]
    written(tmp_path, 0, 1)
    assert file.resume(BATCHES) == [2]
    written(tmp_path, 2)
    assert file.resume(BATCHES) == []
    assert file.read() == [answer((row, 0)) for row in range(5)]
    file.replace(file.read())
    assert file.resume(BATCHES) == [], "in whatever order"


def test_a_torn_line_is_dropped_with_its_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, 0)
    whole = file.path.read_bytes()
    written(tmp_path, 1)
    for length in range(len(whole) + 1, file.path.stat().st_size):
        copy = tmp_path / str(length)
        copy.mkdir()
        (copy / ANSWERS).write_bytes(file.path.read_bytes()[:length])
        torn = AnswersFile(copy)
        assert torn.resume(BATCHES) == [1, 2]
        assert torn.path.read_bytes() == whole
        assert capsys.readouterr().err
        torn.append([answer(key) for key in BATCHES[1]])
        assert torn.path.read_bytes() == file.path.read_bytes()


def test_what_is_dropped_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, 0, 1)
    file.path.write_bytes(file.path.read_bytes()[:-3])
    file.resume(BATCHES)
    torn, again = capsys.readouterr().err.splitlines()
    assert torn.endswith("the last line was torn and is dropped")
    assert "1 answers of a batch that is not whole are written again" in again


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ('{"row": 9, "draw": 0}', "line 3: no answer of this job"),
        ('{"row": 4, "draw": 0}', "line 3: a second answer"),
        ('{"row": 1', "line 3: damaged"),
        ("[]", "line 3: damaged"),
    ],
)
def test_lines_that_are_not_ours(tmp_path: Path, line: str, part: str) -> None:
    file = written(tmp_path, 0)
    with file.path.open("a") as lines:
        lines.write(line + "\n" + json.dumps(answer((0, 0))) + "\n")
    with pytest.raises(ValueError, match=part):
        file.resume(BATCHES)


def test_answers_that_are_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"answers\.jsonl: is gone; delete the folder"):
        AnswersFile(tmp_path).read()
