"""A finished run of a classifier, as `kdlab train` leaves it, made by hand: its model is a few random bytes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_hub
import pytest

from kdlab.data.dataset import DatasetConfig
from kdlab.data.labels import LabelsConfig
from kdlab.losses import LOSSES
from kdlab.models.student import StudentConfig
from kdlab.teachers.options import TeacherConfig
from kdlab.text.task import Task
from kdlab.training.recipe import TrainConfig

TASK = Task(
    kind="classification",
    names=("low", "high"),
    column="helpfulness",
    template="Context: {prompt}\n\nText: {response}",
    max_length=64,
)


def metrics(accuracy: float) -> dict[str, Any]:
    told = {"rows": 200, "accuracy": accuracy, "macro_f1": accuracy - 0.02, "ece": 0.031, "majority_accuracy": 0.5}
    return {**told, "nll": 0.61, "latency": {"p50_ms": 3.2, "p95_ms": 4.1}, "test": told}


@pytest.fixture
def finished(tmp_path: Path) -> Callable[..., Path]:
    """`finished("fold0", accuracy=0.7, options={"dataset.fold": 0})`: the folder of a run."""

    def make(
        name: str = "run",
        *,
        accuracy: float = 0.7,
        options: dict[str, Any] | None = None,
        model: bool = True,
        **changes: Any,
    ) -> Path:
        folder = tmp_path / "multirun" / name
        folder.mkdir(parents=True)
        config = TrainConfig(
            name="run",
            teacher=TeacherConfig(path="tiny:llama"),
            student=StudentConfig(path="tiny:llama"),
            loss=LOSSES["forward_kl"](),
            dataset=DatasetConfig(path="me/rows", labels=LabelsConfig(column="helpfulness")),
        )
        resolved = dataclasses.asdict(config)
        for option, value in (options or {}).items():
            group, _, key = option.rpartition(".")
            (resolved[group] if group else resolved)[key] = value
        record = {
            "schema": 1,
            "status": "finished",
            "verb": "train",
            "name": "run",
            "overrides": [],
            "config": json.loads(json.dumps(resolved)),
            "git": {"sha": "a" * 40, "dirty": True},
            "versions": {"kdlab": "0.1.0", "torch": "2.13.0", "bitsandbytes": None},
            "hardware": {"processor": "a processor", "cores": 2, "device": "cpu", "device_name": "a processor"},
            "seeds": {"seed": resolved["seed"]},
            "finished": "2026-11-22T12:00:00+00:00",
            "steps": 10,
            "epochs": 1.0,
            "seconds": {"total": 12.5},
            "peak_memory_bytes": {"host": 5_000_000, "device": None},
            "data": {"classes": {"counts": {"train": {"low": 60, "high": 40}, "test": {"low": 5, "high": 5}}}},
            "models": {
                "teacher": {"source": "tiny:llama", "parameters": 2000, "bytes": 8000, "disk_bytes": None},
                "student": {
                    "source": f"folder {tmp_path}/base",
                    "parameters": 1000,
                    "trainable_parameters": 500,
                    "bytes": 4000,
                    "disk_bytes": 4100,
                    "dtype": "float32",
                },
            },
            "compression_ratio": 2.0,
            "metrics": {"teacher": metrics(0.8), "before": metrics(0.5), "after": metrics(accuracy)},
            "loss": {"name": "forward_kl", "temperature": 4.0, "hard_weight": 0.3},
            "samples": [{"prompt": "a text of the data"}],
            **changes,
        }
        (folder / "run.json").write_text(json.dumps(record))
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "last.ckpt").write_bytes(b"pickled")
        (folder / "before.json").write_text("{}")
        if model:
            write_model(folder / "model", seed=1)
            TASK.save(folder / "model")
        return folder

    return make


def write_model(folder: Path, *, seed: int) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama", "id2label": {"0": "low", "1": "high"}}')
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}')
    (folder / "model.safetensors").write_bytes(bytes([seed]) * 100_000)


@pytest.fixture
def exported(tmp_path: Path) -> Callable[..., Path]:
    """The folder of a `kdlab export` of a run: one variant that is good, one that is not, for which it has failed."""

    def make(run: Path) -> Path:
        folder = tmp_path / "multirun" / "export"
        told = {"disk_bytes": 30_000, "memory_bytes": 40_000, "examples": 50, "accuracy": 0.7, "macro_f1": 0.68}
        told |= {"latency": {"p50_ms": 1.5, "p95_ms": 2.0}, "examples_per_second": 600.0}
        variants = [
            {"name": "torch", "folder": str(run / "model"), "status": "good", "reason": None, "agreement": 1.0, **told},
            {"name": "onnx_int8", "folder": "onnx_int8", "status": "good", "reason": None, "agreement": 0.98, **told},
            {"name": "nf4", "folder": "nf4", "status": "refused", "reason": "agreement 0.9 < 0.97", **told},
        ]
        for name in ("onnx_int8", "nf4"):
            (folder / name).mkdir(parents=True)
            (folder / name / "model.onnx").write_bytes(name.encode() * 1000)
            (folder / name / "variant.json").write_text(json.dumps({"kind": name, "source": str(run / "model")}))
        record = {"schema": 1, "verb": "export", "status": "failed", "source": str(run / "model")}
        (folder / "export.json").write_text(json.dumps({**record, "variants": variants}))
        return folder

    return make


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_hub.FakeHub]:
    """The fake hub, found by HF_ENDPOINT, its token in the environment; nobody waits before trying again."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    with fake_hub.serving() as serving:
        monkeypatch.setenv("HF_ENDPOINT", serving.url)
        monkeypatch.setenv("HF_TOKEN", fake_hub.TOKEN)
        # read once, at import: whoever runs the tests may have gone offline
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield serving


@pytest.fixture
def start() -> Callable[..., dict[str, Any]]:
    """Publish into a folder, as the command line does."""
    from kdlab.publishing.job import publish
    from kdlab.publishing.recipe import PublishConfig

    def run(folder: Path, **options: Any) -> dict[str, Any]:
        config = PublishConfig(**{"repo": "me/student", **options})
        return publish(config, output_dir=folder, resolved=dataclasses.asdict(config), overrides=[])

    return run
