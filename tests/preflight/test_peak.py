"""The predicted peak against a measured one, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def kdlab(*words: str, cwd: Path) -> None:
    command = [sys.executable, "-m", "kdlab", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_smoke_within_a_fifth(tmp_path: Path) -> None:
    kdlab("check", "experiment=smoke", "--no-probe", "--json", "check.json", cwd=tmp_path)
    kdlab("train", "experiment=smoke", cwd=tmp_path)
    predicted = json.loads((tmp_path / "check.json").read_text())["memory"]["peak_bytes"]
    run = json.loads((tmp_path / "multirun" / "smoke" / "default" / "run.json").read_text())
    assert predicted == pytest.approx(run["peak_memory_bytes"]["host"], rel=0.2)


@pytest.mark.slow
def test_quickstart_within_a_fifth(tmp_path: Path) -> None:
    kdlab("check", "experiment=quickstart", "--json", "check.json", cwd=tmp_path)
    found = json.loads((tmp_path / "check.json").read_text())
    run = json.loads((ROOT / "experiments" / "quickstart" / "runs" / "seed0.json").read_text())
    assert found["memory"]["peak_bytes"] == pytest.approx(run["peak_memory_bytes"]["host"], rel=0.2)
    # Another machine, or this one while it is busy: the hours are for information.
    print(f"predicted {found['time']['seconds']:.0f} s, measured {run['seconds']['total']:.0f} s")
