"""kdlab pipeline as it is typed: stages as real processes on tiny models, killed, continued, swept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PRESET = """# @package _global_
name: two
options: ["seed={seed}", "experiment=smoke", "trainer.max_steps=2", "trainer.progress=false", "dataset.num_samples=4",
  "benchmark=numbers", "benchmark.tokens=200", "trainer.evaluate_every=null"]
stages:
  teacher: {options: [student=tiny, teacher=none, loss=hard]}
  student: {options: ["teacher.path={teacher}/model", "loss.temperature=2"]}
"""


def kdlab(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_TOKEN": "hf_not_to_be_found"}
    command = [sys.executable, "-m", "kdlab", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "pipeline.json").read_text())
    return found


@pytest.mark.slow
def test_two_stages_then_a_sweep_of_which_one_job_fails(tmp_path: Path) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "two.yaml").write_text(PRESET)
    words = ["pipeline", "-c", "own", "experiment=two"]
    done = kdlab(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "multirun" / "two" / "default"
    assert record(folder)["status"] == "finished"
    student = json.loads((folder / "student" / "run.json").read_text())
    assert (student["name"], student["status"]) == ("student", "finished")
    assert "multirun/two/default/teacher/model" in json.dumps(student["config"])
    assert (folder / "report.html").is_file()
    again = kdlab(*words, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("finished already") == 2
    broken = tmp_path / "multirun" / "two" / "seed=1" / "teacher"
    (broken / ".lock").mkdir(parents=True)  # no process can hold it
    swept = kdlab(*words, "-m", "seed=1,2", cwd=tmp_path)
    assert swept.returncode == 1
    assert "stage teacher failed, status 1" in swept.stderr
    assert record(broken.parent)["status"] == "failed"
    assert record(tmp_path / "multirun" / "two" / "seed=2")["status"] == "finished"
    assert "hf_not_to_be_found" not in "".join(
        file.read_text(errors="replace") for file in (tmp_path / "multirun").rglob("*.json") if file.is_file()
    )
