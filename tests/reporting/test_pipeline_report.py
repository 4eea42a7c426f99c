"""Pipelines in a report: their stages, and runs of ten folds joined by stage."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from kdlab.reporting.arms import pair_cells
from kdlab.reporting.comparison import labels
from kdlab.reporting.pipelines import stage_cells, stages
from kdlab.reporting.records import read_all
from kdlab.reporting.repeats import repeat_groups
from kdlab.reporting.report import print_table, write_page

RIGHT = {"teacher": (88, 90, 89), "student": (80, 84, 81), "labels": (76, 79, 78)}


def entry(name: str, verb: str = "train", **more: Any) -> dict[str, Any]:
    record = f"{name}/run.json" if verb == "train" else None
    entry = {"name": name, "verb": verb, "options": [], "folder": name, "record": record, "status": "finished"}
    return entry | {"seconds": 90.0, "error": None} | more


@pytest.fixture
def sweep(write_run, write_record, classifier, tmp_path: Path) -> Path:
    """A pipeline over three folds: the student's teacher lies in its own fold's folder, as its options say."""
    for fold in range(3):
        for stage, rights in RIGHT.items():
            changes = classifier(after=rights[fold], fold=fold) | {"name": stage}
            changes["overrides"] = [f"name={stage}", f"teacher.path=s/fold={fold}/teacher/model"]
            write_run(f"s/fold={fold}/{stage}", changes)
        listed = [*map(entry, RIGHT), entry("publish", "publish", status="off", seconds=0.0)]
        overrides = ["experiment=tiny", f"fold={fold}"]
        write_record("pipeline", f"s/fold={fold}", name="tiny", overrides=overrides, stages=listed)
    return tmp_path / "s"


def test_runs_are_named_by_their_stage(sweep: Path) -> None:
    records = read_all([sweep])
    assert len(records.pipelines) == 3
    assert {run.stage for run in records.runs} == set(RIGHT)
    assert labels(records.runs)[0] == "labels fold=0"


def test_stages_are_arms_over_the_folds(sweep: Path) -> None:
    groups = repeat_groups(read_all([sweep]).runs)
    assert [group.label for group in groups] == ["labels", "student", "teacher"]
    assert [group.folds for group in groups] == [["0", "1", "2"]] * 3
    head, rows, _ = pair_cells(groups)
    found = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert set(found) == {"labels − student", "labels − teacher", "student − teacher"}
    assert found["labels − student"]["accuracy"].startswith("-4.0")


def test_stages_below_the_pipeline_know_it_too(sweep: Path) -> None:
    records = read_all([str(sweep / "*" / "student"), str(sweep / "*" / "labels")])
    assert records.pipelines == [], "it was not asked for"
    assert [group.label for group in repeat_groups(records.runs)] == ["student", "labels"]


def test_pipelines_of_other_names_are_told_apart(sweep: Path, write_run, write_record, classifier) -> None:
    write_run("s/other/student", classifier(fold=0) | {"name": "student"})
    write_record("pipeline", "s/other", name="wide", overrides=["fold=0"], stages=[entry("student")])
    names = {run.title for run in read_all([sweep]).runs}
    assert {"tiny: student", "wide: student"} <= names


def test_printed_and_on_the_page_with_links(sweep: Path, capsys) -> None:
    (sweep / "fold=1" / "student" / "report.html").write_text("a page")
    print_table([sweep])
    out = capsys.readouterr().out
    for told in ("3 pipelines", "left out", "over folds", "corrected resampled t-test", "n_test/n_train"):
        assert told in out
    page = write_page([sweep], sweep / "report.html").read_text(encoding="utf-8")
    links = re.findall(r'href="([^"#]+)"', page)
    assert "fold%3D1/student/report.html" in links
    assert "fold%3D0/teacher/run.json" in links
    assert not [link for link in links if ":" in link or link.startswith("/")], "a page that is moved along"
    assert page.count("<h1>") == 1


def test_one_pipeline_is_a_row_a_stage(sweep: Path, write_record) -> None:
    failed = entry("export", "export", status="failed", error="no onnx", record=None)
    folder = write_record(
        "pipeline", "one", stages=[failed, "nonsense", {}, entry("later", status="waiting", record=None)]
    )
    records = read_all([folder])
    assert [stage.name for stage in stages(records.pipelines[0])] == ["export", "later"]
    _, rows = stage_cells(records.pipelines)
    assert [row[2] for row in rows] == ["failed: no onnx", "waiting"]
    page = write_page([folder], folder / "r.html").read_text(encoding="utf-8")
    assert "<title>kdlab: 1 pipeline</title>" in page
    assert "failed: no onnx" in page


def test_a_broken_record_is_one_line(sweep: Path, write_record) -> None:
    write_record("export", "s/fold=0/export", schema=7)
    (sweep / "fold=2" / "pipeline.json").write_text("{")
    records = read_all([sweep])
    assert len(records.runs) == 9
    assert len(records.complaints) == 2
    assert "schema 7" in "".join(records.complaints)
    assert not any("\n" in line for line in records.complaints)
