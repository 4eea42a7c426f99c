"""Tiny models on disk, and rows to hold their variants against. Exports take seconds, so tests share them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from kdlab.data.dataset import DatasetConfig
from kdlab.data.labels import LabelsConfig
from kdlab.exporting.recipe import ExportConfig, ModelConfig
from kdlab.models.classifier import load_classifier
from kdlab.models.tiny import byte_tokenizer, save_tiny
from kdlab.models.writing import save_student
from kdlab.text.task import Task

WORDS = {"card": "my card is lost", "fee": "a fee was charged", "rate": "what is the rate"}


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of texts of three classes."""
    file = tmp_path_factory.mktemp("rows") / "rows.csv"
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["text", "label"])
        for number in range(120):
            label = list(WORDS)[number % 3]
            writer.writerow([f"{WORDS[label]}, said {'really ' * (number % 7)}customer {number}", label])
    return file


@pytest.fixture(scope="session")
def task() -> Task:
    return Task(kind="classification", names=tuple(WORDS), column="label", template="{text}", max_length=48)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory, task: Task) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    model = load_classifier("tiny:llama", task=task, fresh_head=True)
    model.score.weight.data *= 20  # decided classes: a fresh head says next to nothing
    save_student(model, byte_tokenizer(), folder, task)
    return folder


@pytest.fixture(scope="session")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("llama", tmp_path_factory.mktemp("causal"))


@pytest.fixture(scope="session")
def config(rows: Path, classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportConfig:
    dataset = DatasetConfig(
        path=str(rows),
        labels=LabelsConfig(column="label", template="{text}"),
        heldout=40,
        fold_by="stratified",
        cache_dir=str(tmp_path_factory.mktemp("tokens")),
    )
    return ExportConfig(
        model=ModelConfig(path=str(classifier)),
        dataset=dataset,
        variants=["onnx"],
        latency_examples=2,
        calibration=8,
        agreement=0.9,
    )


@pytest.fixture(scope="session")
def text_config(config: ExportConfig, causal: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportConfig:
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("\n\n".join(f"line {i} of a text: {'abc ' * (i % 9)}" for i in range(200)), encoding="utf-8")
    dataset = DatasetConfig(path=str(file), max_length=64, heldout=0.3, cache_dir=config.dataset.cache_dir)
    return replace(config, model=ModelConfig(path=str(causal)), dataset=dataset, tokens=512)
