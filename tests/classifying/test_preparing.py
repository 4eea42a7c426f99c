"""`kdlab prepare`: what it writes, says and refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kdlab.classifying.preparing import prepare
from kdlab.classifying.recipe import PrepareConfig
from kdlab.data.dataset import DatasetConfig
from kdlab.data.labels import LabelsConfig


def rows(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"prompt": f"p{i}", "response": f"answer {i} {j}", "rating": (i + j) % 3}
        for i in range(start, start + count)
        for j in range(2)
    ]


@pytest.fixture
def run(tmp_path):
    def made(train, *, test=None, strict=True, folder="out", **options):
        for name, part in (("rows", train), ("test", test)):
            if part is not None:
                (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
        if test is not None:
            options["test_path"] = str(tmp_path / "test.jsonl")
        labels = LabelsConfig(column=options.pop("column", "rating"), regression=options.pop("regression", False))
        dataset = DatasetConfig(path=str(tmp_path / "rows.jsonl"), labels=labels, **({"folds": 3} | options))
        config = PrepareConfig(dataset=dataset, strict=strict)
        resolved = {"name": "prepare", "dataset": {"folds": dataset.folds}}
        return prepare(config, output_dir=tmp_path / folder, resolved=resolved, overrides=["dataset.folds=3"])

    return made


def test_the_classes_and_every_fold_are_written_and_said(run, tmp_path, capsys) -> None:
    record = run(rows(30), test=rows(5, start=50))
    assert record == json.loads((tmp_path / "out" / "prepare.json").read_text())
    assert (record["verb"], record["status"], record["overrides"]) == ("prepare", "finished", ["dataset.folds=3"])
    assert record["classes"]["names"] == ["0", "1", "2"]
    assert record["classes"]["counts"] == {"train": {"0": 20, "1": 20, "2": 20}, "test": {"0": 4, "1": 3, "2": 3}}
    assert sum(record["folds"]["rows"]) == 60
    assert [sum(counts) for counts in record["folds"]["counts"]] == record["folds"]["rows"]
    told = json.loads((tmp_path / "out" / "folds.json").read_text())
    assert sorted(row for fold in told["rows"] for row in fold) == list(range(60))
    assert set(told["leakage"]["pairs"]) == {*(f"the other folds/fold {k}" for k in range(3)), "train/test"}
    said = capsys.readouterr().out
    assert "3 folds, stratified_group, dataset.split_seed=0, no prompt in two" in said
    assert "fold 2: " in said
    assert "always 0: right on " in said


def test_the_same_data_gives_the_same_bytes(run, tmp_path) -> None:
    run(rows(30))
    run(rows(30), folder="again")
    assert (tmp_path / "out/folds.json").read_bytes() == (tmp_path / "again/folds.json").read_bytes()
    run(rows(30), folder="other", split_seed=1)
    assert (tmp_path / "out/folds.json").read_bytes() != (tmp_path / "other/folds.json").read_bytes()


def test_prompts_in_two_folds_end_with_an_error_that_is_written_down(run, tmp_path, capsys) -> None:
    with pytest.raises(ValueError, match=r"^dataset\.fold_by=plain: fold 0: of 20 rows .* have the group of one \(row"):
        run(rows(30), fold_by="plain")
    record = json.loads((tmp_path / "out/prepare.json").read_text())
    assert record["status"] == "failed"
    assert record["leakage"]["pairs"]["the other folds/fold 0"]["group"] > 0
    assert (tmp_path / "out/folds.json").is_file()
    counted = run(rows(30), fold_by="plain", strict=False, folder="counted")
    assert counted["status"] == "finished"
    assert counted["leakage"]["pairs"] == record["leakage"]["pairs"]
    assert "have the group of one" in capsys.readouterr().out


def test_given_parts_are_compared(run, tmp_path) -> None:
    heldout = tmp_path / "heldout.jsonl"
    heldout.write_text("".join(json.dumps(row) + "\n" for row in rows(10, start=100)))
    record = run([*rows(30), rows(10, start=100)[0]], heldout_path=str(heldout))
    assert record["folds"]["folds"] is None
    assert record["folds"]["rows"] == {"train": 60, "heldout": 20}
    assert record["folds"]["skipped"]["train"] == {"that are also in the rows to judge by": 1}
    assert json.loads((tmp_path / "out/folds.json").read_text())["rows"] is None


def test_numbers_have_a_spread_and_no_classes(run, capsys) -> None:
    record = run(rows(30), regression=True)
    assert record["classes"]["spread"]["train"]["mean"] == 1
    assert record["classes"]["majority"] is None
    assert record["folds"]["counts"] == [[], [], []]
    assert "mean 1, sd 0.816, from 0 to 2" in capsys.readouterr().out


def test_one_class_is_refused_and_written_down(run, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"^dataset\.labels\.column=rating: every row has the same value"):
        run([row | {"rating": 1} for row in rows(9)])
    assert "every row has the same value" in json.loads((tmp_path / "out/prepare.json").read_text())["error"]
