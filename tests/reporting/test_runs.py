"""Finding and reading runs, whole, unfinished, broken and foreign."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdlab.reporting.records import read_all
from kdlab.reporting.runs import find, read


def test_files_folders_and_globs_find_each_run_once_in_order(write_run, tmp_path: Path) -> None:
    b, a = write_run("sweep/b"), write_run("sweep/a")
    expected = [b / "run.json", a / "run.json"]
    assert find([b / "run.json", tmp_path, str(tmp_path / "sweep" / "*")]) == expected
    assert find([str(tmp_path / "**" / "run.json")]) == sorted(expected)
    assert find([tmp_path]) == sorted(expected)


def test_a_path_without_runs_is_an_error_that_names_it(tmp_path: Path) -> None:
    for given in (tmp_path, tmp_path / "absent", tmp_path / "absent*"):
        with pytest.raises(FileNotFoundError, match=r"kdlab train") as caught:
            find([given])
        assert str(given) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"schema": 1,', "not readable as JSON"),
        ("[1]", "not a run of kdlab"),
        ('{"name": "other tool"}', "not a run of kdlab"),
        ('{"schema": 9, "status": "finished", "name": "x", "config": {}}', "schema 9"),
        (b"\xff\xfe\x00", "not readable as JSON"),
    ],
)
def test_a_broken_or_foreign_file_is_one_clear_line(write_run, tmp_path: Path, content: str | bytes, told: str) -> None:
    good, bad = write_run("good"), tmp_path / "bad" / "run.json"
    bad.parent.mkdir()
    bad.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = read_all([tmp_path])
    complaints = found.complaints
    assert [run.folder for run in found.runs] == [good]
    assert len(complaints) == 1
    assert told in complaints[0]
    assert str(bad) in complaints[0]
    assert "\n" not in complaints[0]
    with pytest.raises(ValueError, match=told):
        read_all([bad])


def test_values_numbers_and_texts(write_run) -> None:
    run = read(write_run() / "run.json")
    assert run.number("metrics", "after", "kl") == 2.0
    assert run.number("metrics", "after", "kl", "deeper") is None
    assert run.number("git", "dirty") is None
    assert run.number("name") is None
    assert run.text("error") == ""
    assert run.text("loss", "name") == "forward_kl"
    assert run.overrides == ["experiment=quick"]


def test_curves_keep_phases_apart_and_skip_empty_cells(write_run) -> None:
    run = read(write_run() / "run.json")
    assert run.curve("loss", phase="train") == ([1.0, 2.0, 3.0, 4.0], [9.5, 7.25, 6.0, 5.5])
    assert run.curve("kl", phase="heldout") == ([2.0], [4.0])
    assert run.curve("hard", phase="train") == ([], [])
    assert run.curve("no such column", phase="train") == ([], [])


def test_half_a_last_line_is_left_out_and_said(write_run) -> None:
    folder = write_run(changes={"status": "running"})
    with (folder / "metrics.csv").open("a") as file:
        file.write("5,0.5,tra")
    run = read(folder / "run.json")
    assert len(run.points) == 5
    assert run.notes == ["metrics.csv: 1 unreadable lines left out"]


def test_a_run_without_metrics_is_readable_and_says_so(write_run) -> None:
    folder = write_run()
    (folder / "metrics.csv").unlink()
    run = read(folder / "run.json")
    assert run.points == []
    assert "metrics.csv is missing" in run.notes[0]


@pytest.mark.parametrize(
    ("changes", "finished", "status", "state"),
    [
        ({}, True, "finished", "finished"),
        ({"status": "stopped_early"}, True, "stopped early", "stopped early"),
        ({"status": "running"}, False, "not finished", "not finished (last step written: 4)"),
        ({"status": "failed", "error": "step 3: nan"}, False, "failed", "failed: step 3: nan"),
    ],
)
def test_how_a_run_stands(write_run, changes: dict, finished: bool, status: str, state: str) -> None:
    run = read(write_run(changes=changes) / "run.json")
    assert (run.finished, run.status, run.state) == (finished, status, state)


def test_a_run_that_wrote_only_its_first_record(write_run, tmp_path: Path) -> None:
    bare = {"schema": 1, "status": "running", "name": "x", "config": {}}
    (tmp_path / "run.json").write_text(json.dumps(bare))
    run = read(tmp_path / "run.json")
    assert run.state == "not finished (no step written yet)"
    assert run.overrides == []
