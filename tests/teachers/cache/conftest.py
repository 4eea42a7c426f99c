"""A small finished cache, written once by a real job."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kdlab.caching.job import cache
from kdlab.caching.recipe import CacheConfig
from kdlab.data.dataset import DatasetConfig
from kdlab.models.student import CutConfig, StudentConfig
from kdlab.teachers.codecs.hidden import HiddenCodec
from kdlab.teachers.options import TeacherConfig
from kdlab.training.recipe import TrainerConfig


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signals")
    lines = [{"text": f"{i} " + "abcdefgh "[: 3 + i % 7] * (1 + i % 8)} for i in range(20)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = CacheConfig(
        teacher=TeacherConfig(path="tiny:llama"),
        student=StudentConfig(from_teacher=CutConfig(layers=1)),
        codec=HiddenCodec(),
        trainer=TrainerConfig(accelerator="cpu", progress=False),
        dataset=DatasetConfig(
            path=str(folder / "texts.jsonl"), max_length=64, heldout=3, cache_dir=str(folder / "tokens")
        ),
        shard_rows=100,
        fidelity_rows=50,
    )
    cache(config, output_dir=folder / "cache", overrides=["name=test"])
    return folder / "cache"


@pytest.fixture
def finished(original: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(original, tmp_path / "signals"))
