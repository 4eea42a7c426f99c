"""A folder that cannot be written is one line that names the option, before anything is read or loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdlab.cli import main

VERBS = {
    "train": ["experiment=smoke"],
    "cache": ["experiment=smoke"],
    "generate": ["model.path=tiny:llama", "dataset.path=rows.jsonl"],
    "evaluate": ["model.path=tiny:llama", "dataset.path=rows.jsonl"],
    "prepare": ["dataset=local", "dataset.path=rows.jsonl", "dataset.labels.column=label"],
    "export": ["model.path=tiny:llama", "dataset.path=rows.jsonl", "variants=[onnx]"],
    "pipeline": ["experiment=rated_small"],
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDLAB_DEBUG", raising=False)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "a", "question": "b", "answer": "c", "label": 1}) + "\n")
    (tmp_path / "file").write_text("in the way")


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 1
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert not told.out
    assert Path("file").read_text() == "in the way"
    return line


@pytest.mark.parametrize(
    "verb", [pytest.param(verb, marks=[pytest.mark.slow] if verb == "pipeline" else []) for verb in VERBS]
)
def test_the_folder_of_a_run(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused([verb, *VERBS[verb], "hydra.run.dir=file/x"], capsys)
    assert line == (f"hydra.run.dir=file/x: cannot be written ({tmp_path}/file: Not a directory); give another folder")
    assert sorted(place.name for place in tmp_path.iterdir()) == ["file", "rows.jsonl"]


def test_the_folder_of_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(["prepare", "-m", *VERBS["prepare"], "dataset.folds=2,3", "hydra.sweep.dir=file/x"], capsys)
    assert line.startswith(f"hydra.sweep.dir=file/x: cannot be written ({tmp_path}/file: Not a directory)")


@pytest.mark.parametrize(("verb", "output"), [("cache", "file/x"), ("export", "/proc/x")])
def test_the_folder_of_an_output(verb: str, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused([verb, *VERBS[verb], f"output={output}"], capsys)
    assert line.startswith(f"output={output}: cannot be written (")
    assert line.endswith("); give another folder")
    assert not list(Path("multirun").rglob("traceback.txt"))
