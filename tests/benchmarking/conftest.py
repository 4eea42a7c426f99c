from __future__ import annotations

from pathlib import Path

import pytest
from bench_files import write_bench

from kdlab.benchmarking.questions import Bench, read_bench


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bench(tmp_path / "data" / "mt_bench")


@pytest.fixture
def bench(folder: Path) -> Bench:
    return read_bench(str(folder), modes=["single", "pairwise"], count=None)
