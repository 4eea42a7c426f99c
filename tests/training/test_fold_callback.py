"""The fold of a run, applied by its callback; planted leaks end the run."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from kdlab.data.dataset import DatasetConfig, Side
from kdlab.data.labelled.build import build_labelled
from kdlab.data.labelled.rows import read_labelled
from kdlab.data.labels import LabelsConfig
from kdlab.models.tiny import byte_tokenizer
from kdlab.training.callbacks.fold import FoldCallback
from kdlab.training.data import DistillData
from kdlab.training.recipe import TrainConfig

SIDE = Side(tokenizer=byte_tokenizer())


@pytest.fixture
def labelled(tmp_path):
    rows = [
        {"prompt": f"p{i}", "response": f"answer {i} {j}", "rating": (i + j) % 3} for i in range(30) for j in range(2)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    labels, cache = LabelsConfig(column="rating"), str(tmp_path / "cache")
    config = DatasetConfig(path=str(path), cache_dir=cache, labels=labels, fold=1, folds=3)
    return read_labelled(config)


def test_the_fold_goes_to_the_data_module_and_is_written_down(labelled, tmp_path) -> None:
    data = build_labelled(labelled, SIDE)
    module = DistillData(TrainConfig(), replace(data, train=data.heldout), pad_id=0)
    callback = FoldCallback(data, tmp_path)
    callback.apply(module)
    assert module.data.train is data.train
    written = (tmp_path / "folds.json").read_bytes()
    told = json.loads(written)
    assert (told["fold"], told["folds"], told["by"], told["group"]) == (1, 3, "stratified_group", "prompt")
    assert told["rows"][1] == told["parts"]["heldout"]["rows"] == labelled.heldout.numbers.tolist()
    assert sorted(row for fold in told["rows"] for row in fold) == list(range(60))
    assert told["parts"]["train"]["counts"] == labelled.counts["train"]
    assert told["leakage"]["pairs"]["train/heldout"]["group"] == 0
    callback.apply(module)
    assert (tmp_path / "folds.json").read_bytes() == written


def test_a_prompt_in_two_parts_is_refused(labelled, tmp_path) -> None:
    """The sibling of a held-out response, put among the training rows behind the reader's back."""
    sibling = labelled.heldout.only(labelled.heldout.numbers == labelled.heldout.numbers[0])
    planted = replace(
        labelled.train,
        numbers=[*labelled.train.numbers, *sibling.numbers],
        fields=labelled.train.fields + sibling.fields,
        texts=[*labelled.train.texts, "another answer"],
        labels=[*labelled.train.labels, *sibling.labels],
        groups=labelled.train.groups + sibling.groups,
    )
    data = build_labelled(labelled, SIDE)
    planted = replace(planted, numbers=np.array(planted.numbers), labels=np.array(planted.labels))
    leaky = replace(data, labelled=replace(labelled, train=planted))
    with pytest.raises(ValueError, match=r"^dataset: 2 of the \d+ heldout rows have a group that a row of train has"):
        FoldCallback(leaky, tmp_path).apply(DistillData(TrainConfig(), data, pad_id=0))
    assert not (tmp_path / "folds.json").exists()


def test_examples_of_other_rows_are_refused(labelled) -> None:
    data = build_labelled(labelled, SIDE)
    with pytest.raises(ValueError, match=r"^dataset\.fold: the train examples are not of the"):
        FoldCallback(replace(data, train=data.heldout), None).apply(DistillData(TrainConfig(), data, pad_id=0))
