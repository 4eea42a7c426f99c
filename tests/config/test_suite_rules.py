"""What is refused about benchmarks of others before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdlab.config import ConfigError
from kdlab.config.compose import Composer
from kdlab.config.loading import load_with

FILES = ("question.jsonl", "judge_prompts.jsonl", "reference_answer/gpt-4.jsonl")
JUDGE = "benchmark.mt_bench.judge"


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer("train")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({}) + "\n")
    return tmp_path


def load(composer: Composer, *options: str) -> None:
    load_with(composer, ["experiment=smoke", *options])


def test_the_files_are_looked_for(composer: Composer, folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"mt_bench.path is not set: .*FastChat's repository.*fastchat/llm_judge"):
        load(composer, "benchmark=mt_bench")
    load(composer, "benchmark=mt_bench", f"benchmark.mt_bench.path={folder}")
    (folder / FILES[2]).unlink()
    with pytest.raises(ConfigError, match=r"has no reference_answer/\*.jsonl"):
        load(composer, "benchmark=mt_bench", f"benchmark.mt_bench.path={folder}")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["kind=local"], r"judge.path is not set: write benchmark.mt_bench.judge.path=<hub id"),
        (["kind=local", "path=tiny:t5"], r"judge.path=tiny:t5: is an encoder-decoder model"),
        (["kind=local", "path=tiny:llama", "model=a"], r"judge.model=a: only .*judge.kind=server has one"),
        (["path=tiny:llama"], r"judge.path=tiny:llama: only benchmark.mt_bench.judge.kind=local has one"),
    ],
)
def test_a_judge_is_a_server_or_a_model(composer: Composer, folder: Path, options: list[str], line: str) -> None:
    judge = [f"{JUDGE}.{option}" for option in options]
    with pytest.raises(ConfigError, match=line):
        load(composer, "benchmark=mt_bench", f"benchmark.mt_bench.path={folder}", *judge)


def test_tasks_are_named_and_their_package_is_there(composer: Composer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"benchmark.harness.tasks is empty: write"):
        load(composer, "benchmark=harness", "benchmark.harness.tasks=[]")
    with pytest.raises(ConfigError, match=r"harness.include_path=nowhere: no such folder"):
        load(composer, "benchmark=harness", "benchmark.harness.include_path=nowhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "lm_eval" else name)
    with pytest.raises(ConfigError, match=r"needs lm_eval, which is not installed: pip install 'kdlab\[eval\]'"):
        load(composer, "benchmark=harness")
