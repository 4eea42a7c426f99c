"""The benchmarks still run: what they measure on tiny models is nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "rows"),
    [
        (["export.py", "--tiny"], ("| onnx_int8 |", "| tables, spread, per token |", "| all: ")),
        (["cache_step.py", "--tiny", "--rounds", "1"], ("| live |", "| topk ")),
    ],
    ids=["export", "cache_step"],
)
def test_a_benchmark_prints_its_table(words: list[str], rows: tuple[str, ...], tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(ROOT / "benchmarks" / words[0]), *words[1:]]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    for row in rows:
        assert row in ran.stdout
