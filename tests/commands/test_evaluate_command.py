"""kdlab evaluate as a user meets it: its table, its files, grades by hand, sweeps and mistakes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from kdlab.cli import main
from kdlab.models.tiny import save_tiny

OPTIONS = ["dataset.path=asked.jsonl", "writing.max_new_tokens=5", "writing.accelerator=cpu"]
COMMAND = ["evaluate", "model.path=tiny:llama", *OPTIONS]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDLAB_DEBUG", raising=False)
    rows = [{"question": f"{i} + {i}?", "answer": f"#### {2 * i}"} for i in range(5)]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def folders() -> list[Path]:
    return sorted(path for path in Path("multirun/evaluate").iterdir() if path.is_dir())


def test_answers_grades_and_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(COMMAND) == 0
    (folder,) = folders()
    first = json.loads((folder / "evaluation.json").read_text())
    assert first["accuracy"] == {"correct": 0, "count": 5, "unresolved": 5, "manual": 0}
    assert "5 answers are unresolved and count as wrong" in capsys.readouterr().out
    with (folder / "unresolved.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    grades = {"0": "0", "1": "2", "2": "none"}
    with open("it's graded, by me.csv", "w", newline="") as lines:
        table = csv.DictWriter(lines, list(rows[0]))
        table.writeheader()
        table.writerows(row | {"grade": grades.get(row["row"], "")} for row in rows)
    assert main([*COMMAND, "--manual", "it's graded, by me.csv"]) == 0
    assert folders() == [folder], "grades are of the same job"
    out = capsys.readouterr().out
    assert ["accuracy", "2", "5", "40.0%"] in [line.split()[:4] for line in out.splitlines()]
    assert "3 answers were graded by hand (it's graded, by me.csv)" in out
    record = json.loads((folder / "evaluation.json").read_text())
    assert record["accuracy"] == {"correct": 2, "count": 5, "unresolved": 2, "manual": 3}
    assert record["by_rule"]["manual"] == {"count": 3, "correct": 2}
    assert main(COMMAND) == 0
    assert json.loads((folder / "evaluation.json").read_text())["accuracy"] == record["accuracy"], "and they stay"
    assert main([*COMMAND, "--manual", "asked.jsonl"]) == 1
    assert capsys.readouterr().err == (
        "manual=asked.jsonl: line 1: no column row; it needs row, draw, question, answer, grade\n"
    )


@pytest.mark.slow
def test_a_sweep_ends_with_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "-m", "rules=s1,boxed_last", "writing.examples=2"]) == 0
    assert [json.loads((folder / "evaluation.json").read_text())["rules"] for folder in folders()] == [
        "boxed_last",
        "s1",
    ]
    table = capsys.readouterr().out.splitlines()[-2:]
    assert [line.split()[:4] for line in table] == [
        ["rules=s1", "0", "2", "0.0%"],
        ["rules=boxed_last", "0", "2", "0.0%"],
    ]
    assert main([*COMMAND, "-m", "rules=s1,boxed_last", "--manual", "a.csv"]) == 2
    assert capsys.readouterr().err.startswith("--manual: its grades are of one job")


def test_the_model_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tiny("llama", tmp_path / "run" / "model")
    capsys.readouterr()
    (tmp_path / "run" / "adapter").mkdir()
    (tmp_path / "run" / "adapter" / "adapter_config.json").write_text("{}")
    (tmp_path / "begun" / "adapter").mkdir(parents=True)
    for path, remedy in (
        ("run", "the folder of a run; its model is model.path=run/model"),
        ("run/adapter", "an adapter that names no base model (adapter_config.json); give the merged model, run/model"),
        ("begun", "has an adapter and no model/; finish the run, which merges the two into model/"),
    ):
        assert main(["evaluate", f"model.path={path}", *OPTIONS]) == 2
        assert capsys.readouterr().err == f"model.path={path}: {remedy}\n"
    assert main(["evaluate", "model.path=run/model", "writing.examples=1", *OPTIONS]) == 0
    (folder,) = folders()
    assert json.loads((folder / "evaluation.json").read_text())["model"]["source"].endswith("run/model")


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        ([], 2, "model.path is not set: write model.path=<hub id, folder or GGUF file>"),
        (["model.path=tiny:lama"], 2, "model.path=tiny:lama: must be one of tiny:llama"),
        (["model.path=tiny:llama", "rules=best"], 2, "rules=best: must be one of s1, boxed_last"),
        (["model.path=tiny:llama", "writing.temperature=0"], 2, "writing.temperature=0: must be > 0; greedy is"),
        (["model.path=tiny:llama", "--keep=correct"], 2, "options have no dashes: keep=correct"),
        (["model.path=tiny:llama", "--manual"], 2, "--manual: expected one argument"),
        (["model.path=tiny:llama", "--manual", "missing.csv", "writing.examples=1"], 1, "manual=missing.csv: no such"),
        (["model.path=tiny:llama", "writing.accelerator=mps"], 1, "writing.accelerator=mps: there is none here; use"),
        (["model.path=tiny:llama", "dataset.path=missing.jsonl"], 1, "dataset.path=missing.jsonl: no such file"),
        (["model.path=tiny:llama", "quantization=nf4"], 1, "model.path=tiny:llama: a tiny model"),
    ],
)
def test_every_mistake_is_one_line(
    words: list[str], status: int, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [option for option in OPTIONS if option.split("=")[0] not in {word.split("=")[0] for word in words}]
    assert main(["evaluate", *given, *words]) == status
    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("dataset.split=test")]
    assert part in told[0]
    assert len(told) == 1


def test_an_interruption_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kdlab.answering.evaluate.answer_all", stop)
    assert main(COMMAND) == 130
    assert f"the same command continues: kdlab {' '.join(COMMAND)}" in capsys.readouterr().err
