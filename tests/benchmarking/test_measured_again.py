"""What is said of tasks whose earlier results are of no use, with lm-evaluation-harness as told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from kdlab.benchmarking.recipe import HarnessConfig
from kdlab.data.dataset import DatasetConfig
from kdlab.teachers.options import TeacherConfig
from kdlab.training.callbacks.suites import KEPT, Suites
from kdlab.training.pair import ModelPair
from kdlab.training.recipe import BenchmarkConfig, TrainConfig, TrainerConfig

SAME = {"asked": "a", "values": {"acc": [1.0, 0.0, 1.0]}}


def told(place: Path, monkeypatch: pytest.MonkeyPatch, *items: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """What a run says, and what moved, where the task "t" tells `items` before training and after."""
    left = list(items)

    class Told:
        def __init__(self, config: HarnessConfig) -> None:
            self.about: dict[str, Any] = {}

        def run(self, model: Any, tokenizer: Any) -> dict[str, Any]:
            self.items = {"t": left.pop(0)}
            return {"t": {"acc": 0.5}}

    monkeypatch.setattr("kdlab.benchmarking.harness.Harness", Told)
    config = TrainConfig(
        name="test",
        teacher=TeacherConfig(source="none"),
        dataset=DatasetConfig(path="unread.jsonl"),
        trainer=TrainerConfig(progress=False),
        benchmark=BenchmarkConfig(samples=0, speed=False, harness=HarnessConfig(tasks=["t"])),
    )
    said: list[str] = []
    record: dict[str, Any] = {"metrics": {"teacher": None, "before": None, "after": None}, "files": {}}
    suites = Suites(config, place, options={}, device=torch.device("cpu"), record=record, say=said.append)
    pair = cast("ModelPair", SimpleNamespace(split=SimpleNamespace(model=torch.nn.Linear(1, 1)), teacher=None))
    suites.before(pair, None)
    suites.after(pair, None)
    return said, record["metrics"]["after"]["moved"]["harness"]["t"]


def test_without_mt_bench_nothing_is_said_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / KEPT).write_text("{}")
    said, _ = told(tmp_path, monkeypatch, SAME, SAME)
    assert said[0] == f"{tmp_path / KEPT}: of other options, damaged or edited; measured again"
    assert not any("MT-Bench" in line for line in said)


@pytest.mark.parametrize(
    ("before", "after", "other", "metrics"),
    [
        (SAME, SAME | {"values": {"acc": [1.0, 1.0, 1.0], "f1": [0.5, 0.5, 1.0]}}, False, {"acc"}),
        (SAME | {"values": {}}, SAME, False, set()),
        (SAME, SAME | {"asked": "b"}, True, {"acc"}),
        (SAME, {"asked": "b", "values": {}}, True, set()),
    ],
)
def test_other_examples_are_told_from_a_metric_without_any(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: dict[str, Any],
    after: dict[str, Any],
    other: bool,
    metrics: set[str],
) -> None:
    said, moves = told(tmp_path, monkeypatch, before, after)
    line = "lm-evaluation-harness: t does not ask what it asked before training; no difference"
    assert (line in said) == other
    assert set(moves) == metrics
    assert all((moved is None) == other for moved in moves.values())
