"""Whole caching jobs that take a second: the tiny teacher over a few lines of text, in several shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kdlab.caching.job import cache
from kdlab.caching.recipe import CacheConfig
from kdlab.data.dataset import DatasetConfig
from kdlab.models.student import CutConfig, StudentConfig
from kdlab.teachers.cache.manifest import Manifest
from kdlab.teachers.codecs.topk import TopKCodec
from kdlab.teachers.live import LiveTeacher
from kdlab.teachers.options import TeacherConfig
from kdlab.training.recipe import TrainerConfig

LINES = 30
Job = Callable[..., CacheConfig]
Run = Callable[[CacheConfig, Path], Manifest]


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lines of different lengths; the last repeats the first."""
    folder = tmp_path_factory.mktemp("texts")
    lines = [{"text": f"{i} " + "abcdefgh "[: 3 + i % 7] * (1 + i % 8)} for i in range(LINES - 1)]
    lines.append(lines[0])
    (folder / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def job(texts: Path) -> Job:
    """`job(shard_rows=100, codec=...)`: a config; names of dataset options go to the dataset."""

    def make(**options: Any) -> CacheConfig:
        dataset: dict[str, Any] = {
            "path": str(texts / "texts.jsonl"),
            "max_length": 64,
            "cache_dir": str(texts / "cache"),
            "heldout": 3,
        }
        for name in [name for name in options if name in DatasetConfig.__dataclass_fields__]:
            dataset[name] = options.pop(name)
        groups: dict[str, Any] = {
            "teacher": TeacherConfig(path="tiny:llama"),
            "student": StudentConfig(from_teacher=CutConfig(layers=1)),
            "codec": TopKCodec(k=4),
            "trainer": TrainerConfig(max_steps=1, batch_size=4, accelerator="cpu", progress=False),
            "shard_rows": 200,
            "fidelity_rows": 0,
        }
        return CacheConfig(**(groups | options), dataset=DatasetConfig(**dataset))

    return make


@pytest.fixture
def run() -> Run:
    """Run a job in a folder, as the command line does."""

    def go(config: CacheConfig, folder: Path) -> Manifest:
        return cache(config, output_dir=folder, overrides=["name=test"])

    return go


@pytest.fixture
def content() -> Callable[[Path], dict[str, bytes]]:
    """Every byte of a cache; what a job notes of itself beside it is no part of it."""

    def read(folder: Path) -> dict[str, bytes]:
        files = (file for file in sorted(folder.rglob("*")) if file.is_file() and "cache.json" not in file.name)
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}

    return read


class Killed(BaseException):
    """The process ends here, as far as the job can tell."""


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], AbstractContextManager[None]]:
    """`with kill_at(3): run(...)`: the third time that the teacher is asked, the process dies."""

    @contextmanager
    def dying(last: int) -> Iterator[None]:
        signal, asked = LiveTeacher.signal, [0]

        def counted(self: LiveTeacher, *arguments: Any) -> Any:
            asked[0] += 1
            if asked[0] == last:
                raise Killed
            return signal(self, *arguments)

        with monkeypatch.context() as patched:
            patched.setattr(LiveTeacher, "signal", counted)
            with pytest.raises(Killed):
                yield

    return dying
