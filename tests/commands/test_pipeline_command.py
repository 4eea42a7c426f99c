"""kdlab pipeline as it is typed: stages as real processes on tiny models, killed, continued, swept."""

from __future__ import annotations

import json
import os
import shlex
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
    assert "goes on there: kdlab pipeline --config-dir" in swept.stderr
    assert "experiment=two seed=1\n" in swept.stderr
    assert record(broken.parent)["status"] == "failed"
    assert record(tmp_path / "multirun" / "two" / "seed=2")["status"] == "finished"
    assert "hf_not_to_be_found" not in "".join(
        file.read_text(errors="replace") for file in (tmp_path / "multirun").rglob("*.json") if file.is_file()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "folder"),
    [(["hydra.run.dir=a place/x"], "a place/x"), (["-m", "seed=1", "hydra.sweep.dir=b"], "b/seed=1")],
)
def test_the_same_command_goes_on_in_the_folder_that_was_given(tmp_path: Path, words: list[str], folder: str) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "two.yaml").write_text(PRESET)
    lock = tmp_path / folder / "teacher" / ".lock"
    lock.mkdir(parents=True)  # no process can hold it
    first = kdlab("pipeline", "-c", "own", "experiment=two", *words, cwd=tmp_path)
    assert first.returncode == 1
    started = record(tmp_path / folder)["started"]
    [line] = [line for line in first.stderr.splitlines() if "goes on there: " in line]
    again = kdlab(*shlex.split(line.partition("goes on there: kdlab ")[2]), cwd=tmp_path)
    assert again.returncode == 1
    assert record(tmp_path / folder)["started"] == started
    assert len(list(tmp_path.rglob("pipeline.json"))) == 1
    assert "goes on there: " + line.partition("goes on there: ")[2] in again.stderr


REFUSING = """# @package _global_
name: refusing
options: ["seed={seed}", "experiment=smoke", "trainer.max_steps=1", "trainer.progress=false", "dataset.num_samples=12",
  "dataset.path=rows.jsonl", "dataset.cache_dir=tokens", "benchmark=numbers", "benchmark.tokens=200",
  "trainer.evaluate_every=null"]
extra: ["optimizer.lr=1e-3"]
stages:
  teacher: {options: [student=tiny, teacher=none, loss=hard]}
  small: {verb: export, options: ["model.path={teacher}/model", "dataset.max_length=32", "dataset.heldout=4",
    "variants=[onnx_int8]", kl=1e-7, latency_examples=2, tokens=128]}
  again: {verb: export, options: ["model.path={small}/onnx_int8"]}
  student: {options: ["teacher.path={teacher}/model"]}
"""


@pytest.mark.slow
def test_a_variant_that_cannot_pass_is_said_and_the_rest_is_run(tmp_path: Path) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "refusing.yaml").write_text(REFUSING)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": f"line {i} of a text"}) + "\n" for i in range(24)))
    done = kdlab("pipeline", "-c", "own", "experiment=refusing", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    folder = tmp_path / "multirun" / "refusing" / "default"
    states = {stage["name"]: stage["status"] for stage in record(folder)["stages"]}
    assert states == {"teacher": "finished", "small": "failed", "again": "waiting", "student": "finished"}
    assert (folder / "report.html").is_file()
    last = done.stderr[done.stderr.index("finished: teacher, student\n") :]
    assert "onnx_int8 refused: KL 0.0" in last
    assert "is above kl=1e-07; none is good" in last
    assert "the model itself is finished: multirun/refusing/default/teacher/model" in last
    [remedy] = [line for line in last.splitlines() if line.startswith("take them as they are")]
    asked = shlex.split(remedy.partition("kdlab ")[2])
    took = kdlab(*asked, "stages.again.enabled=false", cwd=tmp_path)
    assert took.returncode == 0, took.stderr
    assert took.stdout.count("finished already") == 2
    assert record(folder)["status"] == "finished"
