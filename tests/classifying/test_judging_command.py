"""`kdlab evaluate` of a classifier as it is typed: its options, and what it refuses before it loads anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdlab.cli import main
from kdlab.models.classifier import load_classifier
from kdlab.models.tiny import byte_tokenizer
from kdlab.models.writing import save_student
from kdlab.text.task import Task

ROWS = "".join(json.dumps({"text": f"text {i}", "kind": ("even", "odd")[i % 2]}) + "\n" for i in range(30))
LABELS = ["dataset.path=rows.jsonl", "+dataset.labels.column=kind", "dataset.heldout=10", "dataset.split=train"]


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with a classifier, and rows to judge it by."""
    monkeypatch.chdir(tmp_path)
    task = Task(kind="classification", names=("even", "odd"), column="kind", template="{text}", max_length=16)
    folder = tmp_path / "run" / "model"
    folder.mkdir(parents=True)
    save_student(load_classifier("tiny:bert", task=task, fresh_head=True), byte_tokenizer(), folder, task)
    (tmp_path / "rows.jsonl").write_text(ROWS)


def test_a_classifier_is_judged(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["evaluate", "model.path=run/model", *LABELS, "writing.accelerator=cpu"]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "10 heldout rows of kind" in told
    assert "accuracy" in told
    (folder,) = (tmp_path / "multirun" / "evaluate").iterdir()
    record = json.loads((folder / "evaluation.json").read_text())
    assert record["classification"]["rows"] == 10
    assert len((folder / "decisions.jsonl").read_text().splitlines()) == 10
    assert main(command) == 0
    assert "all rows are decided" in capsys.readouterr().out


@pytest.mark.slow
def test_a_sweep_of_classifiers_ends_with_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ["evaluate", "-m", "model.path=run/model,run", *LABELS, "writing.accelerator=cpu"]
    assert main(sweep) == 0
    table = capsys.readouterr().out.splitlines()[-2:]
    assert [line.split()[0] for line in table] == ["model.path=run/model", "model.path=run"]
    assert table[0].split()[1:] == table[1].split()[1:]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["model.path=run/model"],
            "model.path=run/model: a classifier that decides kind; give rows with that column: write "
            "dataset.path=<rows> dataset.labels.column=kind, or the dataset=<option> of its training",
        ),
        (["model.path=tiny:bert", *LABELS], "model.path=tiny:bert: has no head that was trained to decide"),
        (["model.path=run/model", *LABELS, "quantization=nf4"], "quantization=nf4: a classifier is judged as it lies"),
        (["model.path=run/model", *LABELS, "manual=a.csv"], "manual=a.csv: a classifier (dataset.labels) is judged"),
        (["model.path=./nothing", *LABELS], "model.path=./nothing: no such file or folder"),
        (
            ["model.path=run/model", *LABELS[:2]],
            "dataset.split=test: local files have no splits; write dataset=local (or dataset.split=train) to read "
            "dataset.path=rows.jsonl as it is",
        ),
    ],
)
def test_a_mistake_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["evaluate", *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_a_model_that_writes_text_decides_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from kdlab.models.tiny import save_tiny

    save_tiny("llama", tmp_path / "writer")
    assert main(["evaluate", "model.path=writer", *LABELS, "writing.accelerator=cpu"]) == 1
    assert "model.path=writer: writes text and decides nothing" in capsys.readouterr().err


def test_generate_takes_no_labels(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "model.path=run/model", *LABELS]) == 2
    assert "dataset.labels: `kdlab generate` is about text that is written" in capsys.readouterr().err
