"""A model that writes answers in a second: tiny and random, asked seven short questions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdlab.answering.recipe import AnswerConfig, EvaluateConfig, ModelConfig, WritingConfig
from kdlab.data.dataset import DatasetConfig

ROWS = [
    {"question": f"What is {i} and {i * i}{' again' * (i % 4)}?", "answer": f"It is {i + i * i}.\n#### {i + i * i}"}
    for i in range(7)
]


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    file = tmp_path / "asked.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return file


@pytest.fixture
def job(asked: Path) -> Callable[..., Any]:
    """`job(GenerateConfig, draws=2, keep="correct")`: a config; names of writing options go to the writing."""

    def make(kind: type[AnswerConfig] = EvaluateConfig, **options: Any) -> AnswerConfig:
        writing: dict[str, Any] = {"max_new_tokens": 6, "batch_size": 3, "accelerator": "cpu", "progress": False}
        for name in [field.name for field in dataclasses.fields(WritingConfig) if field.name in options]:
            writing[name] = options.pop(name)
        groups = {"model": ModelConfig(path="tiny:llama"), "dataset": DatasetConfig(path=str(asked))}
        return kind(**(groups | options), writing=WritingConfig(**writing))

    return make


@pytest.fixture
def start() -> Callable[..., dict[str, Any]]:
    """Run a config in a folder, as the command line does."""
    from kdlab.answering.evaluate import evaluate
    from kdlab.answering.generate import generate

    def run(config: AnswerConfig, folder: Path) -> dict[str, Any]:
        work: Any = evaluate if isinstance(config, EvaluateConfig) else generate
        return dict(work(config, output_dir=folder, resolved=dataclasses.asdict(config), overrides=["name=test"]))

    return run
