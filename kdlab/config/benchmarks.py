"""Rules of the benchmarks of others: what they are asked of, their files, their judge, their package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from kdlab.benchmarking.questions import WHERE, find_bench
from kdlab.benchmarking.recipe import JUDGE, HarnessConfig, MTBenchConfig
from kdlab.config.families import check_model, kind_of
from kdlab.training.recipe import TrainConfig


def check_benchmarks(config: TrainConfig) -> None:
    """Raise ValueError or FileNotFoundError for the first rule that is broken."""
    benchmark = config.benchmark
    if benchmark.mt_bench is not None:
        _check_mt_bench(benchmark.mt_bench)
    if benchmark.harness is not None:
        _check_harness(benchmark.harness)


def _check_mt_bench(config: MTBenchConfig) -> None:
    if not config.path:
        raise ValueError(
            f"benchmark.mt_bench.path is not set: write benchmark.mt_bench.path=<MT-Bench's folder> ({WHERE})"
        )
    find_bench(config.path)
    judge = config.judge
    if judge.kind == "server":
        if judge.path is not None:
            raise ValueError(f"{JUDGE}.path={judge.path}: only {JUDGE}.kind=local has one; a server's is {JUDGE}.model")
        return
    if not judge.path:
        raise ValueError(f"{JUDGE}.path is not set: write {JUDGE}.path=<hub id, folder or GGUF file of a causal model>")
    if judge.model is not None:
        raise ValueError(
            f"{JUDGE}.model={judge.model}: only {JUDGE}.kind=server has one; a local judge is {JUDGE}.path"
        )
    check_model(f"{JUDGE}.path", judge.path)
    if kind_of(judge.path) == "encoder-decoder":
        raise ValueError(f"{JUDGE}.path={judge.path}: is an encoder-decoder model; a judge is a causal one")


def _check_harness(config: HarnessConfig) -> None:
    if not config.tasks:
        raise ValueError(
            "benchmark.harness.tasks is empty: write benchmark.harness.tasks=[arc_easy,...], or benchmark.harness=null"
        )
    place = config.include_path
    if place is not None and not Path(place).expanduser().is_dir():
        raise FileNotFoundError(
            f"benchmark.harness.include_path={place}: no such folder; give one with the YAML files of tasks"
        )
    if importlib.util.find_spec("lm_eval") is None:
        raise ValueError("benchmark.harness: needs lm_eval, which is not installed: pip install 'kdlab[eval]'")
