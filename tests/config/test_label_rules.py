"""Datasets with labels that are refused before they are read, in one line that names the option."""

from __future__ import annotations

import json

import pytest

from kdlab.config.compose import Composer
from kdlab.config.loading import load_with


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer("prepare")


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "validation"):
        row = {"prompt": "p", "response": "r", "helpfulness": 3}
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path


def test_both_presets_read_a_folder_of_their_shape(composer: Composer, folder) -> None:
    config = load_with(composer, ["dataset=helpsteer2", f"dataset.path={folder}"]).config.dataset
    assert (config.labels.column, config.labels.bins, config.test_split) == ("helpfulness", [2, 4], "validation")
    told = ["dataset=banking77", "dataset.labels.column=category", "dataset.fold=3"]
    assert load_with(composer, told).config.dataset.labels.column == "category"
    for column in ("helpfulness", "correctness", "coherence", "complexity", "verbosity"):
        load_with(composer, ["dataset=helpsteer2", f"dataset.labels.column={column}"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset.pack=true"], r"^dataset\.pack=true: dataset\.labels reads one text a row"),
        (
            ["dataset.streaming=true", "dataset.heldout=5"],
            r"^dataset\.streaming=true: classes and folds are known once",
        ),
        (["dataset.supervise=all"], r"^dataset\.supervise=all: dataset\.labels reads one text a row"),
        (["dataset.template=x.jinja"], r"^dataset\.template=x\.jinja: with labels write dataset\.labels\.template"),
        (
            ["dataset.prefix=classify"],
            r"^dataset\.prefix=classify: with labels write it into dataset\.labels\.template",
        ),
        (["dataset.format=messages"], r"^dataset\.format=messages: with labels dataset\.labels\.template says"),
        (
            ["dataset.fold=0", "dataset.heldout_split=test"],
            r"^dataset\.heldout_split=test: dataset\.fold=0 says already",
        ),
        (["dataset.labels.template=none"], r"^dataset\.labels\.template: names no column"),
        (["dataset.labels.names=[low,high]"], r"dataset\.labels\.names: 2 names, but the 2 edges"),
        (["dataset.fold=10"], r"dataset\.fold=10: must be from 0 to 9"),
        (["dataset.test_path=./gone.jsonl", "dataset.test_split=null"], r"^dataset\.test_path=\./gone\.jsonl: no such"),
    ],
)
def test_refused(composer: Composer, overrides: list[str], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
        load_with(composer, ["dataset=helpsteer2", *overrides])
    assert "\n" not in str(raised.value)


def test_a_split_that_a_folder_has_not_is_refused(composer: Composer, folder) -> None:
    told = ["dataset=helpsteer2", f"dataset.path={folder}", "dataset.test_split=test"]
    with pytest.raises((ValueError, FileNotFoundError), match=r"^dataset\.test_split=test: the files of .* validation"):
        load_with(composer, told)


def test_prepare_wants_labels(composer: Composer) -> None:
    with pytest.raises(
        ValueError, match=r"^dataset\.labels\.column is not set: `kdlab prepare` reads rows with labels"
    ):
        load_with(composer, ["dataset=python_docs"])


@pytest.mark.parametrize("verb", ["train", "export", "generate"])
def test_folds_are_of_rows_with_labels(verb: str) -> None:
    given = {"train": ["teacher=tiny", "student=cut"]}.get(verb, ["model.path=tiny:llama"])
    with pytest.raises(ValueError, match=r"^dataset\.fold=0: .*rows with labels"):
        load_with(Composer(verb), [*given, "dataset=python_docs", "dataset.fold=0"])


def test_writing_has_no_labels() -> None:
    with pytest.raises(ValueError, match=r"^dataset\.labels: .* about text that is written; a classifier is asked by"):
        load_with(Composer("generate"), ["model.path=tiny:llama", "dataset=helpsteer2"])
