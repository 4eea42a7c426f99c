"""kdlab cache as it is typed: written, shown, verified; killed for real."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdlab.cli import main

WORDS = ["cache", "experiment=smoke", "codec=topk", "codec.k=8", "dataset.num_samples=6", "shard_rows=4000"]


@pytest.mark.slow
def test_written_shown_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*WORDS, "dataset.num_samples=3"]) == 0
    folder = next((tmp_path / "multirun" / "smoke" / "signals").iterdir())
    assert {"manifest.json", "index.safetensors", "tokenizer", "cache.json"} <= {file.name for file in folder.iterdir()}
    out = capsys.readouterr().out
    assert "codec=topk: " in out
    assert "finished: " in out
    assert main(["cache", "verify", str(folder)]) == 0
    assert "all is as it was written: " in capsys.readouterr().out
    assert main(["cache", "show", str(folder)]) == 0
    shown = capsys.readouterr().out
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "tiny:llama (float32)" in shown
    assert "topk (temperature=1, k=8" in shown
    assert f"{manifest['counts']['entries']:,} (" in shown
    assert manifest["fidelity"]["rows"] >= 512
    assert "kl 0." in shown
    file = folder / "shard-00000.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert main(["cache", "verify", str(folder)]) == 1
    assert "shard-00000.safetensors: is cut short" in capsys.readouterr().out
    words = ["teacher=cached", f'teacher.path="{folder}"', "student.path=tiny:llama", "student.from_teacher=null"]
    assert main(["train", "experiment=smoke", *words]) != 0
    assert "shard-00000.safetensors has " in capsys.readouterr().err


def test_help_and_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "--help"]) == 0
    out = capsys.readouterr().out
    assert "kdlab cache verify PATH" in out
    assert "kdlab cache show PATH" in out
    assert main(["cache", "verify"]) == 2
    assert "kdlab cache verify: give one PATH" in capsys.readouterr().err
    assert main(["cache", "show", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith(f"PATH={tmp_path / 'none'}: no such folder")
    assert main(["cache", "verify", str(tmp_path / "none")]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 1, "no damage to be counted"
    assert main(["cache", "verfy", str(tmp_path)]) == 2
    assert "did you mean kdlab cache verify?" in capsys.readouterr().err
    assert main(["cache", "experiment=smoke", "output="]) == 2
    assert capsys.readouterr().err.startswith("output=: is empty")
    assert main(["cache", "experiment=smoke", "teacher=none"]) == 2
    assert "`kdlab cache` asks a teacher" in capsys.readouterr().err
    assert main(["cache", "experiment=smoke", "shard_rows=0"]) == 2
    assert "shard_rows=0: must be at least 1" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_three_times_and_two_at_once(tmp_path: Path) -> None:
    """kill -9 at moments of chance; then two processes at once finish it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}

    def begin(folder: str) -> subprocess.Popen[str]:
        words = [*WORDS[:-2], "dataset.num_samples=30", "shard_rows=1000", f"output={tmp_path / folder}"]
        return subprocess.Popen(
            [sys.executable, "-m", "kdlab", *words],
            cwd=tmp_path,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    whole = begin("whole")
    told = whole.communicate()[0]
    assert whole.returncode == 0, told
    chance, broken = random.Random(0), tmp_path / "broken"
    for _ in range(3):  # about 150 shards, of which the three write some 30 and two processes the rest
        process, enough = begin("broken"), len(list(broken.glob("shard-*"))) + chance.randint(3, 15)
        while process.poll() is None and len(list(broken.glob("shard-*"))) < enough:
            time.sleep(0.005)
        time.sleep(chance.random() / 10)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (broken / "manifest.json").exists(), "it was killed too late to tell anything"
    pair = [begin("broken"), begin("broken")]
    said = [process.communicate()[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], said
    assert any("continuing: " in out for out in said)

    def content(folder: Path) -> dict[str, bytes]:
        files = (file for file in sorted(folder.rglob("*")) if file.is_file())
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}

    assert content(broken) == content(tmp_path / "whole")
