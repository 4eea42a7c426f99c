"""From a file with labels to what is learnt from and what is judged by."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from rated_files import rated, write

from kdlab.data.dataset import DatasetConfig
from kdlab.data.labelled.leakage import refuse_leaks
from kdlab.data.labelled.rows import read_labelled
from kdlab.data.labels import LabelsConfig


def test_a_fold_is_held_out_by_prompt_and_class(dataset) -> None:
    found = read_labelled(dataset(rated(50), fold=1, folds=5))
    assert (len(found.train), len(found.heldout), found.test) == (80, 20, None)
    assert found.task.names == ("0", "1", "2", "3", "4")
    assert found.fields == ["prompt", "response"]
    assert not {row["prompt"] for row in found.train.fields} & {row["prompt"] for row in found.heldout.fields}
    assert set(found.counts["heldout"].values()) <= {3, 4, 5}
    assert sorted([*found.train.numbers, *found.heldout.numbers]) == list(range(100))
    assert found.train.texts[0] == "\n\n".join(found.train.fields[0].values())
    other = read_labelled(dataset(rated(50), fold=2, folds=5))
    assert not set(other.heldout.numbers) & set(found.heldout.numbers)


def test_every_row_is_held_out_by_one_fold(dataset) -> None:
    held = [read_labelled(dataset(rated(20), fold=k, folds=4)).heldout.numbers for k in range(4)]
    assert sorted(np.concatenate(held)) == list(range(40))


def test_rows_are_skipped_and_counted(dataset) -> None:
    bad = [{"prompt": "p", "response": "r", "rating": None}, {"prompt": "", "response": "r", "rating": 1}]
    bad += [{"prompt": "p", "response": 5, "rating": 1}, {"prompt": "p", "response": "r", "rating": "n/a"}]
    found = read_labelled(dataset(rated(20) + bad, fold=0, folds=4))
    reasons = ["without rating", "whose prompt is empty", "whose response is not text", "whose rating is no number"]
    assert found.train.skipped == dict.fromkeys(reasons, 1)
    assert "4 left out (1 " in str(found)
    assert found.as_dict()["folds"]["skipped"]["train"] == found.train.skipped


def test_planted_rows_of_the_test_are_never_trained_on(dataset) -> None:
    """The very row, and another response to a prompt of the test."""
    test = rated(10, start=100)
    sibling = {"prompt": test[4]["prompt"], "response": "Something new.", "rating": 1}
    found = read_labelled(dataset([*rated(30), test[0], sibling], test=test, fold=0, folds=3))
    assert sum(found.train.skipped.values()) == 2
    assert "2 left out (2 that are also in the rows to judge by)" in str(found)
    for part in (found.train, found.heldout):
        assert not set(part.groups) & set(found.test.groups)
        assert not set(part.texts) & set(found.test.texts)


def test_rows_given_to_hold_out_that_are_in_the_test_go_too(dataset) -> None:
    test, heldout = rated(10, start=100), rated(10, start=200)
    found = read_labelled(dataset([*rated(30), heldout[3]], test=test, heldout=[*heldout, test[0]]))
    assert found.folds is None
    assert (len(found.train), len(found.heldout), len(found.test)) == (60, 20, 20)
    assert sum(found.heldout.skipped.values()) == sum(found.train.skipped.values()) == 1


def test_without_groups_what_leaks_is_counted_and_said(dataset) -> None:
    found = read_labelled(dataset(rated(50), fold=1, folds=5, fold_by="plain"))
    leak = found.leakage.leaks[0]
    assert leak.rows["group"] > 10
    assert not found.leakage.clean
    assert "what is measured on them flatters; dataset.fold_by=stratified_group keeps them apart" in str(found)
    learnt, judged = leak.examples["group"][0]
    every = rated(50)
    assert every[learnt]["prompt"] == every[judged]["prompt"]


def test_texts_that_are_nearly_the_same_are_counted_not_refused(dataset) -> None:
    long = [
        {"prompt": f"p{i}", "response": " ".join(f"w{i}x{j}" for j in range(40)) + end, "rating": i % 2}
        for i in range(20)
        for end in ("", ".")
    ]
    for number, row in enumerate(long):
        row["prompt"] = f"p{number}"
    found = read_labelled(dataset(long, fold=0, folds=5, fold_by="group", template="{response}"))
    (leak,) = found.leakage.leaks
    assert (leak.rows["group"], leak.rows["text"]) == (0, 0)
    assert leak.rows["near"] > 0
    i, j = leak.examples["near"][0]
    assert abs(i - j) == 1
    assert f"nearly repeat one (row {j}: row {i})" in str(found)


def test_parts_that_share_rows_are_refused(dataset) -> None:
    found = read_labelled(dataset(rated(30), fold=0, folds=3))
    leaky = replace(found, heldout=found.train)
    with pytest.raises(ValueError, match=r"^dataset: 36 of the 36 heldout rows have a group that a row of train has"):
        refuse_leaks(leaky.parts, leaky.leakage)


def test_a_share_is_held_out_without_a_fold(dataset) -> None:
    found = read_labelled(dataset(rated(50), heldout=0.2))
    assert (len(found.train), len(found.heldout)) == (80, 20)
    assert found.folds is None
    assert found.how == "20.0% drawn by dataset.split_seed=0, stratified_group"


def test_majority_and_weights_are_of_the_training_rows(dataset) -> None:
    rows = [{"text": f"t{i}", "rating": "a" if i % 4 else "b"} for i in range(80)]
    found = read_labelled(dataset(rows, fold=0, folds=4, weights="balanced"))
    assert found.group == "the text"
    assert found.majority == {"class": "a", "heldout": 0.75, "test": None}
    assert found.class_weights == [60 / (2 * 45), 60 / (2 * 15)]
    weights, counts = np.array(found.class_weights), np.array(list(found.counts["train"].values()))
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1), "the size of the loss stays"
    assert read_labelled(dataset(rows, fold=0, folds=4)).class_weights is None


def test_a_regression_has_no_classes(dataset) -> None:
    found = read_labelled(dataset(rated(30), fold=0, folds=3, regression=True))
    assert (found.task.kind, found.task.names, found.majority) == ("regression", ("rating",), None)
    assert found.train.labels.dtype == np.float64
    told = found.as_dict()["classes"]
    assert told["spread"]["train"]["mean"] == pytest.approx(found.train.labels.mean())
    assert told["counts"] == {"train": {}, "heldout": {}}


def test_num_samples_are_drawn_not_the_first(dataset) -> None:
    rows = [{"text": f"t{i}", "rating": "ab"[i >= 100]} for i in range(200)]
    found = read_labelled(dataset(rows, fold=0, folds=4, num_samples=40))
    assert len(found.train) + len(found.heldout) == 40
    assert min(found.counts["train"].values()) > 5


@pytest.mark.parametrize(
    ("names", "remedy"),
    [
        ((0, 1), "put classes together by dataset.labels.bins, or give more rows"),
        (("no", "yes"), "take that class out, or give more rows"),
    ],
)
def test_a_class_without_a_training_row_is_refused(dataset, names, remedy: str) -> None:
    """All rows of the first class have one prompt, so they are in one fold. Bins are a remedy for numbers only."""
    rows = [{"prompt": "same" if i < 4 else f"p{i}", "response": f"r{i}", "rating": names[i >= 4]} for i in range(40)]
    refused = []
    for k in range(5):
        try:
            read_labelled(dataset(rows, fold=k, folds=5))
        except ValueError as error:
            refused.append(str(error))
    assert len(refused) == 1
    assert refused[0].startswith(f"dataset.labels: no training row is of class {names[0]} (held out: fold")
    assert refused[0].endswith(f"; {remedy}")


def test_numbers_out_of_the_range_are_said_where_bins_cut_them(dataset) -> None:
    """-7 and 99 are in the classes at the ends, of the part that has them."""
    rows, test = rated(30), rated(5, start=90)
    rows[3]["rating"], test[2]["rating"] = -7, 99
    found = read_labelled(dataset(rows, test=test, bins=[2, 4], fold=0, folds=3))
    part = "train" if 3 in found.train.numbers else "heldout"
    lines = {line.split()[0].rstrip(":"): line for line in str(found).splitlines()[1:]}
    assert lines[part].endswith("; rating from -7 to 4")
    assert lines["heldout" if part == "train" else "train"].endswith("; rating from 0 to 4")
    assert lines["test"].endswith("; rating from 0 to 99")
    spread = found.as_dict()["classes"]["spread"]
    ratings = [row["rating"] for i, row in enumerate(rows) if i in set(found.parts[part].numbers.tolist())]
    assert (spread[part]["min"], spread[part]["mean"]) == (-7, pytest.approx(np.mean(ratings)))
    plain = read_labelled(dataset(rated(30), fold=0, folds=3))
    assert "from" not in str(plain)
    assert plain.as_dict()["classes"]["spread"] is None


def test_a_class_that_only_the_test_has_is_refused(dataset) -> None:
    test = [{"prompt": "q", "response": "r", "rating": 9}]
    with pytest.raises(
        ValueError, match=r"^dataset\.test_path=\S+: is of classes that no training row has: 9 \(1 rows"
    ):
        read_labelled(dataset(rated(10), test=test, fold=0, folds=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"column": "stars"}, r"^dataset\.labels\.column=stars: dataset\.path=\S+ has no such column; it has prompt, "),
        ({"template": "{text}"}, r"^dataset\.labels\.template: dataset\.path=\S+ has no column 'text'; it has prompt"),
        (
            {"template": "{prompt} {rating}"},
            r"^dataset\.labels\.template: reads rating, which is what is to be decided",
        ),
        ({"group": "id"}, r"^dataset\.group: dataset\.path=\S+ has no column 'id'"),
        ({"folds": 31}, r"^dataset\.folds=31: there are 30 different values of prompt only"),
    ],
)
def test_what_is_not_there_is_refused(dataset, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        read_labelled(dataset(rated(30), **({"fold": 0} | options)))


def test_csv_and_a_folder_of_splits(tmp_path) -> None:
    for split, count in (("train", 40), ("test", 8)):
        lines = [f'"{split} question {i}, please?",{"ab"[i % 2]}' for i in range(count)]
        (tmp_path / f"{split}.csv").write_text("\n".join(["text,category", *lines]) + "\n")
    config = DatasetConfig(
        path=str(tmp_path), labels=LabelsConfig(column="category"), fold=0, folds=4, test_split="test"
    )
    found = read_labelled(config)
    assert found.task.names == ("a", "b")
    assert (len(found.train), len(found.heldout), len(found.test)) == (30, 10, 8)


def test_names_of_ids_come_with_a_parquet_file(tmp_path) -> None:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    rows = {"text": [f"t{i}" for i in range(20)], "label": [i % 2 for i in range(20)]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "rows.parquet"))
    config = DatasetConfig(path=str(tmp_path / "rows.parquet"), labels=LabelsConfig(column="label"), fold=0, folds=2)
    assert read_labelled(config).task.names == ("neg", "pos")


def test_the_record_is_plain(dataset) -> None:
    told = read_labelled(dataset(rated(30), test=rated(5, start=90), fold=0, folds=3)).as_dict()
    assert json.loads(json.dumps(told)) == told
    assert told["classes"]["names"] == ["0", "1", "2", "3", "4"]
    assert told["folds"]["rows"] == {"train": 36, "heldout": 24, "test": 10}
    assert set(told["folds"]["leakage"]["pairs"]) == {"train/heldout", "train/test", "heldout/test"}


def test_a_file_has_no_splits_and_the_message_names_what_has(tmp_path) -> None:
    path = write(tmp_path / "rows.jsonl", rated(10))
    config = DatasetConfig(path=path, labels=LabelsConfig(column="rating"), fold=0, folds=2, test_split="test")
    with pytest.raises(ValueError, match=r"dataset\.test_split=test: .* use dataset\.test_path=FILE"):
        read_labelled(config)
