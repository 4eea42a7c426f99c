"""A variant knows, as its model did, which rows that has learnt from."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from kdlab.answering.recipe import EvaluateConfig, ModelConfig, WritingConfig
from kdlab.classifying.evaluating import evaluate_classifier
from kdlab.data.labelled.record import write_split
from kdlab.data.labelled.rows import Labelled, read_labelled
from kdlab.data.labelled.seen import keep_seen, seen_by
from kdlab.exporting.job import export
from kdlab.exporting.recipe import ExportConfig


def folds(config: ExportConfig, fold: int) -> ExportConfig:
    return replace(config, dataset=replace(config.dataset, heldout=0.1, fold=fold, folds=4))


def split(config: ExportConfig, fold: int) -> Labelled:
    return read_labelled(folds(config, fold).dataset)


def test_what_a_model_learnt_from_goes_with_its_variant(config: ExportConfig, tmp_path: Path) -> None:
    run, variant = tmp_path / "run", tmp_path / "moved" / "onnx"
    for folder in (run / "model", variant):
        folder.mkdir(parents=True)
    keep_seen(run / "model", variant)
    assert not [*variant.iterdir()], "nothing is known"
    write_split(split(config, 0), run)
    keep_seen(run / "model", variant)
    for fold, count in ((0, 0), (1, 30)):
        parts = split(config, fold).parts
        assert seen_by(variant, parts) == seen_by(run / "model", parts) == {"heldout": count}
    again = tmp_path / "again"
    again.mkdir()
    keep_seen(variant, again)
    assert seen_by(again, split(config, 1).parts) == {"heldout": 30}


@pytest.mark.slow
def test_exports_and_their_variants_say_what_was_learnt(
    config: ExportConfig, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(classifier, run / "model")
    write_split(split(config, 0), run)
    said = "has learnt from 30 of the 30 heldout rows, so what is measured on them flatters"
    for fold, notes in ((0, 0), (1, 1)):
        told = replace(folds(config, fold), model=ModelConfig(path=str(run / "model")))
        record = export(told, output_dir=tmp_path / f"export{fold}", resolved=asdict(told), overrides=[])
        assert [said in note for note in record["notes"]] == [True] * notes
        assert capsys.readouterr().err.count(said) == notes
        again = export(told, output_dir=tmp_path / f"export{fold}", resolved=asdict(told), overrides=[])
        assert (again["rows"], again["notes"]) == (record["rows"], record["notes"]), "nothing was measured again"
        assert again["rows"] is not None
        assert capsys.readouterr().err.count(said) == notes
    moved = tmp_path / "moved"
    shutil.move(tmp_path / "export0" / "onnx", moved)
    for fold, notes in ((0, 0), (1, 1)):
        judged = EvaluateConfig(
            model=ModelConfig(path=str(moved)),
            dataset=folds(config, fold).dataset,
            writing=WritingConfig(accelerator="cpu", progress=False),
        )
        found = evaluate_classifier(judged, output_dir=tmp_path / f"e{fold}", resolved=asdict(judged), overrides=[])
        assert [said in note for note in found["data"]["notes"]] == [True] * notes
