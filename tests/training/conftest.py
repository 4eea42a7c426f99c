"""A whole training job that takes a second: tiny random models on a few lines of text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kdlab.caching.recipe import CacheConfig
from kdlab.data.dataset import DatasetConfig
from kdlab.losses import LOSSES
from kdlab.models.student import CutConfig, StudentConfig
from kdlab.teachers.codecs import Codec
from kdlab.teachers.options import TeacherConfig
from kdlab.training.metrics_file import MetricsFile
from kdlab.training.optimizers import AdamW
from kdlab.training.recipe import BenchmarkConfig, CheckpointConfig, TrainConfig, TrainerConfig
from kdlab.training.run import train

LINES = 30
"""Texts in the training file: 27 to train on, 3 held out."""


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lines of different lengths, 8 to 66 letters."""
    folder = tmp_path_factory.mktemp("texts")
    lines = [{"text": f"{i} " + "abcdefgh "[: 3 + i % 7] * (1 + i % 8)} for i in range(LINES)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="session")
def job(texts: Path) -> Callable[..., TrainConfig]:
    """`job(accumulate=2, student=...)`: a config; names of trainer options go to the trainer."""

    def make(**options: Any) -> TrainConfig:
        trainer: dict[str, Any] = {
            "max_steps": 6,
            "batch_size": 4,
            "precision": "32",
            "accelerator": "cpu",
            "evaluate_every": 3,
            "progress": False,
            "checkpoint": CheckpointConfig(every_steps=2, best=False),
        }
        for name in [field.name for field in dataclasses.fields(TrainerConfig) if field.name in options]:
            trainer[name] = options.pop(name)
        groups: dict[str, Any] = {
            "name": "test",
            "teacher": TeacherConfig(path="tiny:llama"),
            "student": StudentConfig(from_teacher=CutConfig(layers=1)),
            "loss": LOSSES["forward_kl"](),
            "dataset": DatasetConfig(
                path=str(texts / "texts.jsonl"), max_length=64, cache_dir=str(texts / "cache"), heldout=3
            ),
            "optimizer": AdamW(lr=1e-3),
            "benchmark": BenchmarkConfig(samples=2, max_new_tokens=4, speed=False),
        }
        return TrainConfig(**(groups | options), trainer=TrainerConfig(**trainer))

    return make


@pytest.fixture
def start() -> Callable[[TrainConfig, Path], dict[str, Any]]:
    """Run a config in a folder, as the command line does."""

    def run(config: TrainConfig, folder: Path) -> dict[str, Any]:
        return train(config, output_dir=folder, resolved=dataclasses.asdict(config), overrides=["name=test"])

    return run


@pytest.fixture(scope="session")
def keep() -> Callable[[TrainConfig, Path, Codec], TeacherConfig]:
    """`keep(config, folder, codec)`: what the teacher of a config says of its data, cached as `kdlab cache` does; the
    options of the cached teacher."""

    def write(config: TrainConfig, folder: Path, codec: Codec) -> TeacherConfig:
        from kdlab.caching.job import cache

        options = {field.name: getattr(config, field.name) for field in dataclasses.fields(TrainConfig)}
        cache(CacheConfig(**options, codec=codec, fidelity_rows=0), output_dir=folder, overrides=[])
        return TeacherConfig(source="cached", path=str(folder))

    return write


class Killed(BaseException):
    """The process ends here, as far as the run can tell."""


@pytest.fixture
def kill_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], AbstractContextManager[None]]:
    """`with kill_after(7): start(...)`: the 7th row of metrics.csv is the last thing that the process does."""

    @contextmanager
    def dying(last: int) -> Iterator[None]:
        write, written = MetricsFile.write, [0]

        def counted(self: MetricsFile, row: dict[str, Any]) -> None:
            write(self, row)
            written[0] += 1
            if written[0] == last:
                raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(MetricsFile, "write", counted)
            with pytest.raises(Killed):
                yield

    return dying
