"""Rules of a dataset with labels, for every verb: few options of text that is written go with them. What a training job
may do with them is in `config.deciding`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdlab.data.files import find_files, looks_local
from kdlab.text.fields import FieldTemplate

if TYPE_CHECKING:
    from kdlab.data.dataset import DatasetConfig


def check_rows(dataset: DatasetConfig) -> None:
    """What a dataset with labels cannot have, and what only it can have, for every verb. Files to judge by exist."""
    if dataset.labels is None:
        _refuse_unlabelled(dataset)
        return
    if not dataset.path:
        raise ValueError("dataset.path is empty: write dataset.path=<hub id, file, glob or folder> or dataset=<option>")
    one_each = "dataset.labels reads one text a row"
    refused = {
        "pack=true": (dataset.pack, f"{one_each}, and its decision would see the others; use group_by_length=true"),
        "streaming=true": (dataset.streaming, "classes and folds are known once every row is read; write false"),
        "supervise=all": (dataset.supervise == "all", f"{one_each} and predicts none of its tokens; drop it"),
        f"template={dataset.template}": (dataset.template is not None, "with labels write dataset.labels.template"),
        f"prefix={dataset.prefix}": (dataset.prefix is not None, "with labels write it into dataset.labels.template"),
        f"format={dataset.format}": (dataset.format != "auto", "with labels dataset.labels.template says what is read"),
        f"max_target_length={dataset.max_target_length}": (
            dataset.max_target_length is not None,
            "with labels nothing is written; drop it",
        ),
        f"source_language={dataset.source_language}": (
            dataset.source_language is not None,
            "with labels nothing is translated; drop it",
        ),
    }
    for option, (on, why) in refused.items():
        if on:
            raise ValueError(f"dataset.{option}: {why}")
    given = next((name for name in ("heldout_path", "heldout_split") if getattr(dataset, name) is not None), None)
    if dataset.fold is not None and given is not None:
        raise ValueError(
            f"dataset.{given}={getattr(dataset, given)}: dataset.fold={dataset.fold} says already what is held out; "
            f"drop either, or write dataset.test_{given.removeprefix('heldout_')} for rows to judge by at the end"
        )
    if dataset.labels.template is not None:
        FieldTemplate(dataset.labels.template)
    _check_files(dataset)


def _refuse_unlabelled(dataset: DatasetConfig) -> None:
    if dataset.fold is not None:
        raise ValueError(
            f"dataset.fold={dataset.fold}: folds are of rows with labels; choose dataset=helpsteer2, write "
            "dataset.labels.column=<column>, or drop it"
        )
    for option in ("test_split", "test_path", "group"):
        value = getattr(dataset, option)
        if value is not None:
            raise ValueError(
                f"dataset.{option}={value}: is read of rows with labels alone; write "
                f"dataset.labels.column=<column>, or dataset.{option}=null"
            )


def _check_files(dataset: DatasetConfig) -> None:
    """Local files are there, of every split that is asked for."""
    splits = {f"dataset.{name}": getattr(dataset, name) for name in ("split", "heldout_split", "test_split")}
    if looks_local(dataset.path):
        for option, split in splits.items():
            if split is not None:
                find_files(dataset.path, split=split, split_option=option)
    for option in ("heldout_path", "test_path"):
        path = getattr(dataset, option)
        if path is not None and looks_local(path):
            find_files(path, option=f"dataset.{option}")


def refuse_labels(dataset: DatasetConfig, verb: str, remedy: str) -> None:
    """Of a verb that is about text alone."""
    if dataset.labels is not None:
        raise ValueError(f"dataset.labels: {verb} about text that is written; {remedy}, or write dataset.labels=null")
