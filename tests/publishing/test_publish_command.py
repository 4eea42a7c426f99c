"""`kdlab publish` as it is typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_hub
import pytest

from kdlab.cli import main

Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)


def test_a_dry_run_asks_nobody(finished: Make, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    finished()
    assert main(["publish", "run=multirun/run", "repo=me/student"]) == 0
    told = capsys.readouterr().out
    assert "model.safetensors" in told
    (folder,) = (tmp_path / "multirun" / "publish").iterdir()
    assert (folder / "README.md").read_text().startswith("---\n")
    record = json.loads((folder / "publish.json").read_text())
    assert (record["status"], record["dry_run"], record["verb"]) == ("finished", True, "publish")
    assert not list((tmp_path / "multirun" / "publish").rglob("run.json")), "a report would take it for a run"


def test_the_same_command_sends_once(finished: Make, hub: fake_hub.FakeHub, capsys: Any) -> None:
    finished()
    command = ["publish", "run=multirun/run", "repo=me/student", "dry_run=false"]
    assert main(command) == 0
    assert f"published: {hub.url}/me/student" in capsys.readouterr().out
    assert main(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert len(hub.commits["me/student"]) == 2


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([], 2, "run is not set: write run=<a folder that `kdlab train` wrote>"),
        (["run=a", "dry_run=false"], 2, "repo is not set: dry_run=false sends; write repo=<user>/<name>"),
        (["run=a", "repo=student"], 2, "repo=student: must be user/name"),
        (["run=a", "licence='My Own'"], 2, "licence='My Own': must be as the hub names it"),
        (["run=a", "repo=me/x"], 1, "run=a: no such folder"),
        (["run=a", "repo=me/x", "dry_run=false"], 1, "dry_run=false: needs a token with write access in the"),
        (["run=a", "repo=me/hf_" + "aB3" * 10], 1, "repo: has what looks like a token of the hub; no option takes"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", *words]) == status
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


@pytest.mark.slow
def test_the_token_is_nowhere_after_training_and_publishing(
    hub: fake_hub.FakeHub, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real run of a tiny model: train, show, fail, send."""
    rows = "".join(json.dumps({"text": f"a line of words, number {i}"}) + "\n" for i in range(24))
    (tmp_path / "rows.jsonl").write_text(rows)
    train = ["train", "experiment=smoke", "name=run", "dataset.path=rows.jsonl", "trainer.max_steps=2"]
    assert main([*train, "trainer.accelerator=cpu", "trainer.progress=false"]) == 0
    (run,) = (tmp_path / "multirun" / "run").iterdir()
    rows_of = ["dataset=local", "dataset.path=rows.jsonl", "dataset.heldout=4", "dataset.max_length=16", "examples=4"]
    assert main(["export", f"model.path='{run}/model'", *rows_of, "variants=[onnx]", "latency_examples=2"]) == 0
    (export,) = (tmp_path / "multirun" / "export").iterdir()
    publish = ["publish", f"run='{run}'", f"export='{export}'", "repo=me/student"]
    assert main(publish) == 0
    hub.commits_until_break = 1
    assert main([*publish, "dry_run=false"]) == 1
    hub.commits_until_break = None
    assert main([*publish, "dry_run=false"]) == 0
    assert fake_hub.TOKEN not in "".join(capfd.readouterr())
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or fake_hub.TOKEN.encode() not in file.read_bytes(), file
    sent = hub.repos["me/student"]
    assert sent["model.safetensors"] == (run / "model" / "model.safetensors").read_bytes()
    for content in sent.values():
        assert fake_hub.TOKEN.encode() not in content
        assert str(tmp_path).encode() not in content
