"""The data on the page: classes, folds and leaks of a run, and what `kdlab prepare` wrote."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kdlab.reporting.dataset import data, fold_counts
from kdlab.reporting.records import read_all
from kdlab.reporting.report import print_table, write_page
from kdlab.reporting.runs import read

COUNTS = [[20, 20, 60], [18, 22, 60], [22, 18, 60]]
NAMES = ["low", "medium", "high"]


def words(text: str | None) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", text or "").replace("\N{NO-BREAK SPACE}", " ").split())


def test_classes_folds_and_leaks_are_told(write_run, classifier) -> None:
    folder = write_run("a", classifier() | {"files": {"folds": "folds.json"}})
    (folder / "folds.json").write_text(json.dumps({"classes": NAMES, "counts": COUNTS}))
    text = data(read(folder / "run.json"), key="k")
    said = words(text)
    for told in (
        "low 180 (20.0 %) 20 (20.0 %) 40 (20.0 %)",
        "all 900 100 200",
        "Always “high”, the commonest class of the training rows, is right on 60.0 % of the held-out texts and 60.0 %",
        "Classes in each fold , of which 3 is held out here",
        "heldout in train 100 0 0 4",
        "folds: by stratified_group",
        "that are in the test 7",
    ):
        assert told in said, told
    assert text is not None
    assert "<svg" in text
    assert "<svg" not in (data(read(folder / "run.json"), key="k", pictures=False) or "")


@pytest.mark.parametrize(
    "found",
    [
        "{",
        "[]",
        json.dumps({"counts": None}),
        json.dumps({"counts": [[1, 2]], "classes": NAMES}),
        json.dumps({"counts": [[], []], "classes": ["score"]}),
    ],
)
def test_folds_that_cannot_be_drawn_are_left_out(write_run, classifier, found: str) -> None:
    folder = write_run("a", classifier())
    (folder / "folds.json").write_text(found)
    assert fold_counts(read(folder / "run.json")) == ([], [])


@pytest.mark.parametrize(
    "found", [None, {}, [], {"classes": None, "folds": None}, {"classes": {"counts": {"train": {}}}}]
)
def test_data_that_tells_little_breaks_nothing(write_run, tmp_path: Path, found) -> None:
    folder = write_run("a", {"data": found, "config.dataset": {"labels": {"column": "x"}}})
    assert "<h2>Data</h2>" not in write_page([folder], tmp_path / "r.html").read_text(encoding="utf-8")


def test_what_was_prepared_has_a_page_and_a_sweep_is_told_once(
    write_record, classifier, capsys, tmp_path: Path
) -> None:
    told = classifier()["data"]
    told["classes"]["majority"] = {"class": "high", "folds": [0.58, 0.62], "test": 0.6}
    folds = {"fold": None, "folds": 3, "by": "group", "rows": [100, 100, 100], "counts": COUNTS}
    for fold in range(2):
        leakage = told["folds"]["leakage"]
        write_record("prepare", f"s/{fold}", classes=told["classes"], folds=folds, leakage=leakage)
    assert len(read_all([tmp_path / "s"]).prepared) == 1
    print_table([tmp_path / "s"])
    out = capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ")
    assert "rows of each class" in out
    assert "58.0 % to 62.0 % of a fold" in out
    page = write_page([tmp_path / "s"], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Classes in each fold" in page
    assert "heldout in train" in page
