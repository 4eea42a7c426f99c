"""The presets that classify, run end to end on tiny random models and made-up rows of the datasets' shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSequenceClassification

from kdlab.config import load
from kdlab.models.tiny import save_tiny
from kdlab.text.task import read_task
from kdlab.training.run import train

QUICK = [
    "trainer.max_steps=2", "trainer.batch_size=2", "trainer.accelerator=cpu", "trainer.progress=false",
    "trainer.evaluate_every=null", "benchmark.speed=false",
    "dataset.max_length=96", "dataset.fold=0", "dataset.folds=3",
]  # fmt: skip


def rated(count: int, *, first: int) -> list[dict[str, Any]]:
    """Two responses to a prompt, rated from 0 to 4."""
    return [
        {"prompt": f"{first + i // 2} apples?", "response": "yes " * (1 + i % 5), "helpfulness": i % 5}
        for i in range(count)
    ]


@pytest.fixture
def data(tmp_path: Path) -> str:
    folder = tmp_path / "data"
    folder.mkdir()
    for split, rows in (("train", rated(30, first=0)), ("validation", rated(10, first=50))):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def run(preset: str, folder: Path, *overrides: str) -> dict[str, Any]:
    loaded = load("train", [f"experiment={preset}", *QUICK, *overrides])
    assert loaded.config.name == preset
    return train(loaded.config, output_dir=folder, resolved=loaded.resolved, overrides=list(loaded.overrides))


@pytest.mark.slow
def test_the_teacher_and_the_student_of_helpsteer2(data: str, tmp_path: Path) -> None:
    base = save_tiny("llama", tmp_path / "base")
    rows = [f"dataset.path={data}"]
    taught = run("helpsteer2_teacher", tmp_path / "teacher", *rows, f"student.path={base}")
    assert (taught["status"], taught["steps"]) == ("finished", 2)
    assert taught["config"]["student"]["lora"]["r"] == 16
    assert (tmp_path / "teacher" / "adapter" / "adapter_config.json").is_file()
    task = read_task(tmp_path / "teacher" / "model")
    assert task is not None
    assert task.names == ("low", "medium", "high")
    told = run(
        "helpsteer2_student",
        tmp_path / "student",
        *rows,
        f"teacher.path={tmp_path / 'teacher' / 'model'}",
        f"student.path={base}",
    )
    assert (told["status"], told["steps"]) == ("finished", 2)
    assert told["loss"]["temperature"] == 4
    for who in ("teacher", "before", "after"):
        found = told["metrics"][who]
        assert 0 <= found["accuracy"] <= 1
        assert found["test"]["rows"] == 10
    assert told["data"]["classes"]["names"] == ["low", "medium", "high"]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student" / "model")
    assert model.config.id2label == {0: "low", 1: "medium", 2: "high"}


@pytest.mark.slow
def test_a_student_of_classify_small_is_cut_from_a_classifier(data: str, tmp_path: Path) -> None:
    base = save_tiny("llama", tmp_path / "base")
    rows, alone = [f"dataset.path={data}"], ["teacher=none", "loss=hard", "student=pretrained"]
    run("classify_small", tmp_path / "teacher", *rows, *alone, f"student.path={base}")
    teacher = f"teacher.path={tmp_path / 'teacher' / 'model'}"
    told = run("classify_small", tmp_path / "student", *rows, teacher, "student.from_teacher.layers=1")
    assert told["status"] == "finished"
    assert told["compression_ratio"] > 1
    assert read_task(tmp_path / "student" / "model") == read_task(tmp_path / "teacher" / "model")
