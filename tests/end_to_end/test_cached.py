"""`kdlab cache`, then `kdlab train teacher=cached`: as a user types it, with tiny models."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from kdlab.cli import main

SMALL = ["experiment=smoke", "trainer.progress=false", "benchmark.samples=1", "dataset.num_samples=null"]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The options of every command, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"what is {i}?", "response": f"{i} is {i * i}"} for i in range(24)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [*SMALL, "dataset.path=chats.jsonl", f"dataset.cache_dir={tmp_path / 'tokens'}"]


def steps(name: str) -> list[float]:
    [file] = Path("multirun", name).rglob("metrics.csv")
    with file.open() as opened:
        return [float(row["loss"]) for row in csv.DictReader(opened) if row["phase"] == "train"]


@pytest.mark.slow
def test_a_student_is_taught_from_disk(told: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", *told, "codec=topk", "codec.k=9999", "codec.step=0", "output=kept"]) == 0
    cached = ["teacher=cached", "teacher.path=kept", "teacher.model=tiny:llama"]
    options = ["optimizer=sgd", "optimizer.lr=0.1", "trainer.accumulate=2", "trainer.batch_size=3", "seed=5"]
    assert main(["train", *told, *options, "name=live"]) == 0
    assert main(["check", *told, *options, *cached, "--no-probe"]) == 0
    assert main(["train", *told, *options, *cached, "name=cached"]) == 0
    assert len(steps("live")) == 8
    assert steps("cached") == pytest.approx(steps("live"), rel=1e-5)
    [page] = Path("multirun", "cached").rglob("report.html")
    assert "kept by codec=topk" in page.read_text()
    capsys.readouterr()
    assert main(["report", "multirun"]) == 0
    assert "cached" in capsys.readouterr().out


@pytest.mark.slow
def test_many_students_from_one_cache(told: list[str]) -> None:
    assert main(["cache", *told, "codec=hidden", "output=kept"]) == 0
    students = ["teacher=cached", "teacher.path=kept", "loss=forward_kl,reverse_kl", "loss.temperature=3"]
    assert main(["train", "-m", *told, *students, "trainer.max_steps=2", "name=many"]) == 0
    records = [json.loads(file.read_text()) for file in Path("multirun", "many").rglob("run.json")]
    assert [record["status"] for record in records] == ["finished"] * 2
    assert len({record["models"]["teacher"]["identity"] for record in records}) == 1


@pytest.mark.slow
def test_what_does_not_match_is_refused_in_one_line(told: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", *told, "codec=topk", "codec.k=8", "output=kept"]) == 0
    cached = ["teacher=cached", "teacher.path=kept"]
    capsys.readouterr()
    refused = {
        "loss.temperature=2": "loss.temperature=2: this teacher tells of some tokens only, at temperature 1",
        "teacher.model=gpt2": "teacher.model=gpt2: ",
        "dataset.max_length=34": "teacher.path=kept: has no signal for ",
    }
    for option, said in refused.items():
        assert main(["train", *told, *cached, option]) != 0
        error = capsys.readouterr().err.strip().splitlines()
        assert error[-1].startswith(said), error
