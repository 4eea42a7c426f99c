"""Options of the benchmarks that are refused by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from kdlab.benchmarking.recipe import HarnessConfig, JudgeConfig, MTBenchConfig


@pytest.mark.parametrize(
    ("kind", "options", "line"),
    [
        (JudgeConfig, {"kind": "human"}, r"^benchmark.mt_bench.judge.kind=human: must be one of server, local"),
        (JudgeConfig, {"url": "localhost:8000"}, r"judge.url=localhost:8000: must begin with http:// or https://"),
        (JudgeConfig, {"url": "http://a/v1?x=1"}, r"must end before /chat/completions, without \? or #"),
        (JudgeConfig, {"url": "http://me:sk-secret@a/v1"}, r"judge.url: holds a name or password"),
        (JudgeConfig, {"key_variable": "sk-secret"}, r"judge.key_variable: is the name of an environment variable"),
        (JudgeConfig, {"price_in": 3.0}, r"judge.price_out is not set: a cost needs both prices"),
        (JudgeConfig, {"price_out": 3.0}, r"judge.price_in is not set: a cost needs both prices"),
        (JudgeConfig, {"price_in": -3.0, "price_out": 1.0}, r"judge.price_in=-3.0: must be null or a number >= 0"),
        (JudgeConfig, {"temperature": float("nan")}, r"judge.temperature=nan: must be null or a number >= 0"),
        (JudgeConfig, {"tries": 0}, r"judge.tries=0: must be at least 1"),
        (JudgeConfig, {"max_tokens": 0}, r"judge.max_tokens=0: must be at least 1"),
        (JudgeConfig, {"concurrency": 0}, r"judge.concurrency=0: must be at least 1"),
        (JudgeConfig, {"attempts": 0}, r"judge.attempts=0: must be at least 1"),
        (JudgeConfig, {"timeout": 0.0}, r"judge.timeout=0.0: must be > 0 seconds"),
        (MTBenchConfig, {"modes": ["both"]}, r"^benchmark.mt_bench.modes=both: must be one of single, pairwise"),
        (MTBenchConfig, {"modes": []}, r"mt_bench.modes=\[\]: name one of"),
        (MTBenchConfig, {"questions": 0}, r"mt_bench.questions=0: must be at least 1"),
        (MTBenchConfig, {"max_new_tokens": 0}, r"mt_bench.max_new_tokens=0: must be at least 1"),
        (MTBenchConfig, {"batch_size": 0}, r"mt_bench.batch_size=0: must be at least 1"),
        (HarnessConfig, {"tasks": ["a", "a"]}, r"^benchmark.harness.tasks=\['a', 'a'\]: names a task twice"),
        (HarnessConfig, {"limit": 0}, r"benchmark.harness.limit=0: must be at least 1"),
        (HarnessConfig, {"fewshot": -1}, r"benchmark.harness.fewshot=-1: must be at least 0"),
        (HarnessConfig, {"batch_size": 0}, r"benchmark.harness.batch_size=0: must be at least 1"),
    ],
)
def test_mistakes_are_named(kind: type[Any], options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line) as error:
        kind(**options)
    assert "sk-secret" not in str(error.value)
    assert "\n" not in str(error.value)
