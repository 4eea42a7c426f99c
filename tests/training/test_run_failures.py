"""Jobs that cannot go on: what is refused, what is said, and what is left to continue from."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from safetensors import SafetensorError

from kdlab.training.callbacks.checkpoint import AtomicCheckpointIO
from kdlab.training.metrics_file import CLOCK
from kdlab.training.optimizers import SGD
from kdlab.training.recipe import BenchmarkConfig, CheckpointConfig


def rows(folder):
    """metrics.csv as text, without the columns of the clock."""
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in CLOCK} for row in csv.DictReader(file)]


def checkpoint(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def test_a_run_with_other_options_is_refused_and_left_alone(job, start, kill_after, tmp_path):
    with kill_after(5):
        start(job(), tmp_path)
    found = (tmp_path / "run.json").read_bytes()
    with pytest.raises(ValueError, match=r"^optimizer\.lr=0\.5 \(was 0\.001\), optimizer\.momentum=.* last\.ckpt in"):
        start(job(optimizer=SGD(lr=0.5)), tmp_path)
    assert (tmp_path / "run.json").read_bytes() == found
    # what does not touch the weights may change
    changed = job(benchmark=BenchmarkConfig(samples=1, max_new_tokens=2, speed=False), checkpoint=CheckpointConfig())
    record = start(changed, tmp_path)
    assert (record["resumed"], len(record["samples"])) == (1, 1)


def test_other_data_under_the_same_options_is_refused(job, start, kill_after, tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"text": f"line {i} of text"}) + "\n" for i in range(30)))
    config = job()
    config.dataset.path = str(data)
    with kill_after(5):
        start(config, tmp_path / "run")
    data.write_text("".join(json.dumps({"text": f"line {i} of changed text"}) + "\n" for i in range(30)))
    with pytest.raises(ValueError, match=r"dataset \(train\)="):
        start(config, tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_the_run(job, start, tmp_path):
    config = job(optimizer=SGD(lr=1e30), clip=0.0, checkpoint=CheckpointConfig(every_steps=1))
    with pytest.raises(ValueError, match=r"^step 2: the (loss|gradient norm) is (nan|inf) \(examples \d+, ") as stopped:
        start(config, tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["status"] == "failed"
    assert record["error"] == str(stopped.value)
    assert "\n" not in record["error"]
    assert f"last good checkpoint: {tmp_path / 'checkpoints' / 'last.ckpt'} of step 1" in record["error"]
    assert [row["step"] for row in rows(tmp_path) if row["phase"] == "train"] == ["1"]
    assert checkpoint(tmp_path)["kdlab"]["step"] == 1


def test_a_full_disk_leaves_the_last_checkpoint_and_a_clear_line(job, start, tmp_path, monkeypatch):
    start(job(), tmp_path / "whole")
    save, saves = torch.save, [0]

    def full(content, file):
        saves[0] += 1
        if saves[0] == 2:
            file.write(b"half of a checkpoint")
            raise OSError(28, "No space left on device")
        save(content, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        ValueError, match=r"^step 4: the checkpoint could not be written .*No space left.*of step 2\. Make room"
    ):
        start(job(), tmp_path / "full")
    assert [path.name for path in (tmp_path / "full" / "checkpoints").iterdir()] == ["last.ckpt"]
    assert checkpoint(tmp_path / "full")["kdlab"]["step"] == 2
    assert json.loads((tmp_path / "full" / "run.json").read_text())["status"] == "failed"
    record = start(job(), tmp_path / "full")
    assert (record["status"], record["error"], record["resumed"]) == ("finished", None, 1)
    assert rows(tmp_path / "full") == rows(tmp_path / "whole")


def test_a_checkpoint_that_fails_for_another_reason_asks_for_no_room(job, start, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(ValueError, match=r"^step 2: .*illegal memory access.*no earlier checkpoint\. Rerun the same"):
        start(job(), tmp_path)


def test_a_run_that_fails_while_it_loads_keeps_what_was_known(job, start, kill_after, tmp_path, monkeypatch):
    with kill_after(7):  # after the evaluation of step 3
        start(job(), tmp_path)
    known = json.loads((tmp_path / "run.json").read_text())
    assert known["steps"] == 3

    def broken(*_, **__):
        raise ValueError("teacher.path=gone: no such model")

    with monkeypatch.context() as patched:
        patched.setattr("kdlab.training.models.open_teacher", broken)
        with pytest.raises(ValueError, match="no such model"):
            start(job(), tmp_path)
    failed = json.loads((tmp_path / "run.json").read_text())
    assert (failed["status"], failed["error"]) == ("failed", "teacher.path=gone: no such model")
    for key in ("steps", "tokens", "metrics", "samples", "models", "data", "compression_ratio"):
        assert failed[key] == known[key]
    assert failed["metrics"]["after"]["kl"] > 0


def test_a_disk_that_fills_while_the_model_is_written(job, start, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("kdlab.training.saving.replace_folder", full)
        with pytest.raises(ValueError, match=r"model: could not be written \(No space left.*of step 6\. Make room"):
            start(job(), tmp_path)
    assert start(job(), tmp_path)["status"] == "finished"
    assert [row["step"] for row in rows(tmp_path) if row["phase"] == "heldout"] == ["0", "3", "6"]


def test_a_damaged_checkpoint_falls_back_to_the_best(job, start, kill_after, tmp_path, capsys):
    config = job(checkpoint=CheckpointConfig(every_steps=4), evaluate_every=3)
    start(config, tmp_path / "whole")
    # rows: 0 held out, 1 2 3, 3 held out (best.ckpt), 4 (last.ckpt), 5
    with kill_after(7):
        start(config, tmp_path / "killed")
    last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 0xFF
    last.write_bytes(content)
    capsys.readouterr()
    start(config, tmp_path / "killed")
    assert "last.ckpt: cannot be read" in (said := capsys.readouterr().out)
    assert "best.ckpt, step 3" in said
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")


def test_a_checkpoint_cut_short_with_no_other_is_said(job, start, kill_after, tmp_path):
    with kill_after(6):
        start(job(), tmp_path)
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"last\.ckpt: cannot be read .*; delete .*checkpoints to begin again$"):
        start(job(), tmp_path)


def test_lightning_reads_the_checkpoint_that_was_checked(tmp_path):
    torch.save({"kdlab": {"step": 1}}, tmp_path / "last.ckpt")
    files = AtomicCheckpointIO()
    files.loaded = (tmp_path / "last.ckpt", {"kdlab": {"step": 2}})
    assert files.load_checkpoint(tmp_path / "last.ckpt")["kdlab"]["step"] == 2
    assert files.load_checkpoint(tmp_path / "last.ckpt")["kdlab"]["step"] == 1


def test_a_disk_that_fills_told_in_the_words_of_safetensors(job, start, tmp_path, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patched:
        patched.setattr("kdlab.training.saving.save_student", full)
        with pytest.raises(ValueError, match=r"model: could not be written \(.*No space left.*Make room and rerun"):
            start(job(), tmp_path)
    assert start(job(), tmp_path)["status"] == "finished"
