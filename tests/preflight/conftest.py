"""`config("student.lora.r=4")`: a checked config of a run of tiny models on a dozen chats; `look(...)`: what the check
finds of it, asked once for the same options."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from kdlab.config.compose import Composer
from kdlab.config.loading import load_with
from kdlab.preflight.check import check_run
from kdlab.preflight.findings import Findings
from kdlab.training.recipe import TrainConfig


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TrainConfig]:
    folder, composer = tmp_path_factory.mktemp("chats"), Composer("train")
    rows = [{"prompt": f"question {i}", "response": f"answer {i} 日本"} for i in range(12)]
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["experiment=smoke", f"dataset.path={folder / 'chats.jsonl'}", f"dataset.cache_dir={folder / 'cache'}"]
    return lambda *overrides: load_with(composer, [*words, "dataset.num_samples=null", *overrides]).config


@pytest.fixture(scope="session")
def look(config: Callable[..., TrainConfig], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Findings]:
    known: dict[tuple[object, ...], Findings] = {}
    output_dir = tmp_path_factory.mktemp("runs") / "multirun" / "x"

    def check(*overrides: str, memory_bytes: int | None = None, probe: bool = False) -> Findings:
        key = (*overrides, memory_bytes, probe)
        if key not in known:
            known[key] = check_run(
                config(*overrides),
                overrides=list(overrides),
                output_dir=output_dir,
                memory_bytes=memory_bytes,
                probe=probe,
            )
        return known[key]

    return check
