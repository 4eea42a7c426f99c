"""kdlab check around the check itself: exit status, flags, JSON, sweeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kdlab.cli import main
from kdlab.preflight.findings import Findings


class Recorder:
    """Stands where the check stands."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.verdict = "ok"

    def __call__(self, config: Any, **told: Any) -> Findings:
        self.calls.append({"config": config, **told})
        findings = Findings(name=config.name, overrides=told["overrides"])
        findings.section("memory").say(self.verdict, "a line", "a remedy")
        findings.numbers["memory"] = {"peak_bytes": 1}
        return findings


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr("kdlab.preflight.check.check_run", recorder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDLAB_DEBUG", raising=False)
    return recorder


@pytest.mark.parametrize(("verdict", "status"), [("ok", 0), ("warning", 0), ("unknown", 1), ("failure", 1)])
def test_exit_status(check: Recorder, verdict: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    check.verdict = verdict
    assert main(["check", "experiment=smoke"]) == status
    assert "remedy: a remedy" in capsys.readouterr().out
    assert check.calls[0]["output_dir"] == Path("multirun/smoke/default")
    assert not Path("multirun").exists()


def test_flags(check: Recorder) -> None:
    words = ["check", "experiment=smoke", "seed=3", "--json", "x.json", "--memory", "1.5", "--no-probe"]
    assert main(words) == 0
    [call] = check.calls
    assert call["memory_bytes"] == 1.5 * 2**30
    assert call["probe"] is False
    assert call["config"].seed == 3
    written = json.loads(Path("x.json").read_text())
    assert written["memory"] == {"peak_bytes": 1}
    assert written["overrides"] == ["experiment=smoke", "seed=3"]


def test_a_sweep_checks_every_run(check: Recorder) -> None:
    assert main(["check", "-m", "experiment=smoke", "seed=0,1", "--json", "x.json"]) == 0
    assert [call["config"].seed for call in check.calls] == [0, 1]
    assert [job["name"] for job in json.loads(Path("x.json").read_text())["jobs"]] == ["smoke", "smoke"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["typo=1"], "typo"),
        (["--show"], "--show: no such flag"),
        (["--memory", "-1"], "--memory -1"),
        (["--memory", "much"], "--memory"),
        (["loss.temperature=-1"], "loss.temperature=-1"),
    ],
)
def test_mistyped(check: Recorder, words: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "experiment=smoke", *words]) == 2
    assert part in capsys.readouterr().err
    assert check.calls == []


def test_a_file_that_cannot_be_written(check: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "experiment=smoke", "--json", "no/such/folder.json"]) == 1
    assert capsys.readouterr().err.startswith("--json no/such/folder.json: cannot be written")


def test_flags_are_completed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "query", "check", "--m"]) == 0
    assert capsys.readouterr().out.split() == ["--multirun", "--memory"]
    assert main(["completion", "query", "check", "experiment=sm"]) == 0
    assert "experiment=smoke" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("quantization=bnb8", "cannot be quantised"),
        ("quantization=nf4", "cannot be quantised"),
        ("dataset.max_target_length=16", "is a causal model"),
    ],
)
def test_what_train_refuses_is_refused(
    check: Recorder, override: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if override.startswith("quantization"):
        pytest.importorskip("bitsandbytes")
    assert main(["check", "experiment=smoke", override]) == 2
    error = capsys.readouterr().err
    assert override in error
    assert said in error
    assert not check.calls
