"""kdlab train around the training itself: sweeps, folders, failures, interruptions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdlab.cli import main
from kdlab.training.recipe import TrainConfig

Train = Callable[..., dict[str, Any]]


class Recorder:
    """Stands where the training stands; keeps what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[TrainConfig, Path, dict[str, Any], list[str]]] = []
        self.fail: Callable[[TrainConfig], None] = lambda config: None

    def __call__(
        self, config: TrainConfig, *, output_dir: Path, resolved: dict[str, Any], overrides: list[str]
    ) -> dict[str, Any]:
        self.calls.append((config, output_dir, resolved, overrides))
        self.fail(config)
        (output_dir / "run.json").write_text("{}")
        return {"name": "recorded", "samples": []}


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recorder:
    recorder = Recorder()
    pages: list[list[Path]] = []
    monkeypatch.setattr("kdlab.training.run.train", recorder)
    monkeypatch.setattr("kdlab.commands.train_jobs.report", lambda folders, page: pages.append(folders))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDLAB_DEBUG", raising=False)
    return recorder


def test_one_run(train: Recorder, tmp_path: Path) -> None:
    assert main(["train", "experiment=smoke", "loss=reverse_kl", "student.lora.r=4"]) == 0
    [(config, folder, resolved, overrides)] = train.calls
    assert type(config) is TrainConfig
    assert folder == tmp_path / "multirun" / "smoke" / "loss=reverse_kl,student.lora.r=4"
    assert (folder / "samples.md").read_text().startswith("# Samples of recorded")
    assert resolved["student"]["lora"]["r"] == 4
    assert overrides == ["experiment=smoke", "loss=reverse_kl", "student.lora.r=4"]


def test_a_sweep_runs_every_job_in_its_own_folder(train: Recorder, tmp_path: Path) -> None:
    assert main(["train", "-m", "experiment=smoke", "loss=hard,reverse_kl", "seed=3"]) == 0
    assert [call[1].name for call in train.calls] == ["loss=hard,seed=3", "loss=reverse_kl,seed=3"]
    assert all(call[1].parent == tmp_path / "multirun" / "smoke" for call in train.calls)
    assert [call[0].seed for call in train.calls] == [3, 3]


@pytest.mark.slow
def test_a_cluster_may_make_every_run_a_sweep(train: Recorder, tmp_path: Path) -> None:
    cluster = tmp_path / "conf" / "cluster" / "mine.yaml"
    cluster.parent.mkdir(parents=True)
    cluster.write_text("# @package _global_\ncluster:\n  name: mine\nhydra:\n  mode: MULTIRUN\n")
    words = ["train", "--config-dir", "conf", "experiment=smoke", "cluster=mine"]
    assert main(words) == 0
    assert main([*words, "seed=1,2"]) == 0
    folders = ["cluster=mine", "cluster=mine,seed=1", "cluster=mine,seed=2"]
    assert [call[1] for call in train.calls] == [tmp_path / "multirun" / "smoke" / folder for folder in folders]


def test_a_mistake_in_the_last_job_stops_the_first(train: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", "experiment=smoke", "loss.temperature=1,2,-1"]) == 2
    assert train.calls == []
    assert "loss.temperature=-1" in capsys.readouterr().err


def test_sweeps_that_would_trip_over_themselves(train: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", "experiment=smoke", "seed=1,1"]) == 2
    assert "multirun/smoke/seed=1; give them different options" in capsys.readouterr().err
    assert main(["train", "-m", "experiment=smoke", "trainer.workers=0,2"]) == 2
    assert "multirun/smoke/default; what they differ in names no folder, so run" in capsys.readouterr().err
    assert main(["train", "-m", "experiment=smoke", "seed=1,2", "trainer.devices=2"]) == 2
    assert "trainer.devices=2" in capsys.readouterr().err
    assert train.calls == []


def test_devices_started_from_outside_may_sweep(train: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert main(["train", "-m", "experiment=smoke", "seed=1,2", "trainer.devices=2", "--show"]) == 0


@pytest.mark.parametrize(
    ("devices", "environment", "reported"),
    [
        (1, {"SLURM_PROCID": "2"}, True),
        (2, {"SLURM_PROCID": "2"}, False),
        (2, {"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),
        (2, {"SLURM_PROCID": "0"}, True),
    ],
)
def test_the_first_process_of_a_job_reports(
    train: Recorder, monkeypatch: pytest.MonkeyPatch, devices: int, environment: dict[str, str], reported: bool
) -> None:
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["train", "experiment=smoke", f"trainer.devices={devices}"]) == 0
    assert (train.calls[0][1] / "samples.md").exists() is reported


@pytest.mark.slow
def test_a_failing_job_leaves_the_others_alone(train: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(config: TrainConfig) -> None:
        if config.seed == 1:
            raise ValueError("a fault of no kdlab module")

    train.fail = fail
    assert main(["train", "-m", "experiment=smoke", "seed=1,2"]) == 1
    assert [call[0].seed for call in train.calls] == [1, 2]
    assert "failed: experiment=smoke seed=1" in capsys.readouterr().err


def test_an_unexpected_fault_is_two_lines_and_a_file(train: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(config: TrainConfig) -> None:
        raise KeyError("surprise")

    train.fail = fail
    assert main(["train", "experiment=smoke"]) == 1
    err = capsys.readouterr().err
    assert "KeyError" in err
    assert "Traceback" not in err
    assert len(err.splitlines()) == 2
    traceback = train.calls[0][1] / "traceback.txt"
    assert str(traceback) in err
    assert "surprise" in traceback.read_text()


def test_what_kdlab_refuses_is_its_own_line(train: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(config: TrainConfig) -> None:
        from kdlab.models.quantization import QuantizationConfig

        QuantizationConfig(kind="nf3")

    train.fail = fail
    assert main(["train", "experiment=smoke"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("quantization.kind=nf3: must be one of")
    assert not (train.calls[0][1] / "traceback.txt").exists()


def test_an_interrupted_run_says_how_to_go_on(train: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(config: TrainConfig) -> None:
        raise KeyboardInterrupt

    train.fail = fail
    assert main(["train", "experiment=smoke", "name=a"]) == 130
    assert "kdlab train experiment=smoke name=a" in capsys.readouterr().err


def test_debug_raises_to_the_surface(
    train: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(config: TrainConfig) -> None:
        raise KeyError("surprise")

    train.fail = fail
    monkeypatch.setenv("KDLAB_DEBUG", "1")
    assert main(["train", "experiment=smoke"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_show_prints_the_whole_config_and_runs_nothing(
    train: Recorder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "experiment=smoke", "student.lora.r=4", "--show"]) == 0
    out = capsys.readouterr().out
    assert "  path: tiny:llama" in out
    assert "    alpha: 16" in out
    assert train.calls == []
    assert not (tmp_path / "multirun").exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--loss.temperature=2"], "options have no dashes: loss.temperature=2"),
        (["--multi"], "did you mean --multirun?"),
        (["--config-dir"], "--config-dir"),
        (["--config-dir", "missing"], "no such folder"),
    ],
)
def test_flags_that_do_not_exist(
    train: Recorder, words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words]) == 2
    err = capsys.readouterr().err
    assert part in err
    assert len(err.splitlines()) == 1
