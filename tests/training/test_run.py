"""Whole jobs: what they leave behind, how they continue, and how they fail."""

from __future__ import annotations

import csv
import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from kdlab.data.dataset import DatasetConfig, Side, build
from kdlab.losses import LOSSES
from kdlab.models.student import CutConfig, LoraConfig, StudentConfig, build_student
from kdlab.models.tiny import byte_tokenizer, tiny_model
from kdlab.teachers.options import TeacherConfig
from kdlab.training.metrics_file import CLOCK, MetricsFile
from kdlab.training.optimizers import SGD, AdamW8bit
from kdlab.training.recipe import BenchmarkConfig, CheckpointConfig, EarlyStoppingConfig


def rows(folder):
    """metrics.csv as text, without the columns of the clock."""
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in CLOCK} for row in csv.DictReader(file)]


def checkpoint(folder, name="last"):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder / "model").state_dict()


def test_what_a_run_leaves_behind(job, start, tmp_path, capsys):
    config = job(max_steps=None, max_epochs=2, accumulate=2, evaluate_every=None)
    record = start(config, tmp_path)
    assert json.loads((tmp_path / "run.json").read_text()) == record
    assert (record["status"], record["steps"], record["epochs"], record["error"]) == ("finished", 8, 2.0, None)
    assert record["config"]["dataset"]["heldout"] == 3
    assert record["models"]["teacher"]["parameters"] > record["models"]["student"]["parameters"]
    assert record["models"]["student"]["disk_bytes"] == (tmp_path / "model" / "model.safetensors").stat().st_size
    assert record["compression_ratio"] > 1
    assert record["models"]["student"]["teachers_tokenizer"] is True
    assert record["peak_memory_bytes"]["host"] > 1e8
    assert record["seconds"]["total"] >= record["seconds"]["train"] > 0
    assert record["metrics"]["after"]["kl"] < record["metrics"]["before"]["kl"]
    assert {"prompt", "teacher", "before", "after"} == set(record["samples"][0])

    table = rows(tmp_path)
    trained = [row for row in table if row["phase"] == "train"]
    assert [int(row["step"]) for row in trained] == list(range(1, 9))
    assert [float(row["epoch"]) for row in trained] == [step / 4 for step in range(1, 9)]
    assert record["tokens"]["train"] == sum(int(row["tokens"]) for row in trained)
    assert record["tokens"]["supervised"] == sum(int(row["rows"]) for row in trained)
    heldout = [row for row in table if row["phase"] == "heldout"]
    assert [int(row["step"]) for row in heldout] == [0, 4, 8]
    assert {int(row["tokens"]) for row in heldout} == {record["tokens"]["heldout"]}
    assert record["tokens"]["heldout"] == record["data"]["heldout"]["tokens"]
    assert float(heldout[0]["kl"]) == record["metrics"]["before"]["kl"]
    assert float(heldout[2]["kl"]) == record["metrics"]["after"]["kl"]

    said = capsys.readouterr()
    assert "held-out after: perplexity" in said.out
    assert "Lightning" not in said.out + said.err
    assert "GPU" not in said.out + said.err


def test_the_model_is_plain_and_as_good_as_it_says(job, start, tmp_path):
    config = job()
    record = start(config, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    write = pipeline("text-generation", model=str(tmp_path / "model"), tokenizer=tokenizer)
    assert write("abc", max_new_tokens=3)[0]["generated_text"].startswith("abc")

    student, teacher = AutoModelForCausalLM.from_pretrained(tmp_path / "model"), tiny_model("llama")
    nll = kl = agreed = count = 0.0
    store = build(config.dataset, Side(tokenizer=byte_tokenizer())).heldout
    for i in range(len(store)):
        ids = torch.from_numpy(store[i].input_ids.astype("int64"))[None]
        with torch.no_grad():
            q, p = (model(ids).logits[0, :-1].double().log_softmax(-1) for model in (student, teacher))
        targets = ids[0, 1:]
        nll += -q[torch.arange(len(targets)), targets].sum().item()
        kl += (p.exp() * (p - q)).sum().item()
        agreed += (p.argmax(-1) == q.argmax(-1)).sum().item()
        count += len(targets)
    after = record["metrics"]["after"]
    assert after["rows"] == count
    assert after["nll"] == pytest.approx(nll / count, rel=1e-5)
    assert after["perplexity"] == pytest.approx(math.exp(nll / count), rel=1e-5)
    assert after["kl"] == pytest.approx(kl / count, rel=1e-4)
    assert after["top1_agreement"] == agreed / count


LORA = StudentConfig(from_teacher=CutConfig(layers=1), lora=LoraConfig(r=4, dropout=0.5))

CASES = {
    "in the middle of an epoch, accumulating": ({"accumulate": 2, "max_steps": 6}, 6),
    "dropout, at the end of an epoch": ({"student": LORA, "accumulate": 2, "max_steps": 7}, 7),
    "average and early stopping": (
        {"ema": 0.9, "early_stopping": EarlyStoppingConfig(patience=2, min_delta=9.0), "max_steps": 30},
        9,
    ),
    "before the first checkpoint": ({}, 2),
    "8-bit states, bf16": ({"optimizer": AdamW8bit(lr=1e-3), "precision": "bf16-mixed"}, 7),
    "float16 and its scaler": ({"precision": "16-mixed"}, 7),
}


LONG = ("average and early stopping", "8-bit states, bf16", "float16 and its scaler")


@pytest.mark.parametrize("case", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in CASES])
def test_a_killed_run_continues_bit_for_bit(case, job, start, kill_after, tmp_path):
    options, row = CASES[case]
    if isinstance(options.get("optimizer"), AdamW8bit):
        pytest.importorskip("bitsandbytes")
    whole = start(job(**options), tmp_path / "whole")
    with kill_after(row):
        start(job(**options), tmp_path / "killed")
    assert json.loads((tmp_path / "killed" / "run.json").read_text())["status"] == "running"
    record = start(job(**options), tmp_path / "killed")
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    assert record["resumed"] == (0 if case == "before the first checkpoint" else 1)
    assert record["status"] == whole["status"]
    for key in ("steps", "tokens", "metrics", "samples"):
        assert record[key] == whole[key]
    again = weights(tmp_path / "killed")
    assert all(torch.equal(weight, again[name]) for name, weight in weights(tmp_path / "whole").items())


def test_early_stopping_stops_and_says_so(job, start, tmp_path):
    options = {"early_stopping": EarlyStoppingConfig(patience=2, min_delta=9.0), "max_steps": 30, "evaluate_every": 2}
    record = start(job(**options), tmp_path)
    # the first evaluation is the reference; two more do not improve by 9 nats
    assert (record["status"], record["steps"]) == ("stopped_early", 6)


def test_measuring_before_happens_once(job, start, kill_after, tmp_path):
    with kill_after(4):
        start(job(), tmp_path)
    kept = (tmp_path / "before.json").stat().st_mtime_ns
    start(job(), tmp_path)
    assert (tmp_path / "before.json").stat().st_mtime_ns == kept


def test_a_finished_run_says_so_and_loads_nothing(job, start, tmp_path, capsys, monkeypatch):
    first = start(job(max_steps=2), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.name != ".lock"}
    monkeypatch.setattr("kdlab.training.session.Session", None)
    capsys.readouterr()
    assert start(job(max_steps=2), tmp_path) == first
    assert "this run has finished after 2 steps" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(ValueError, match=r"trainer\.max_steps=3 \(was 2\): the finished run"):
        start(job(max_steps=3), tmp_path)


def test_a_checkpoint_holds_what_is_trained_and_nothing_else(job, start, tmp_path):
    start(job(student=LORA, max_steps=2, ema=0.5), tmp_path)
    saved = checkpoint(tmp_path)
    assert saved["state_dict"]
    assert all("lora_" in name for name in saved["state_dict"])
    assert not any("teacher" in name for name in saved["state_dict"])
    assert not (tmp_path / "lightning_logs").exists()
    assert weights(tmp_path)  # merged: reads without peft
    assert not any("lora" in name for name in weights(tmp_path))


def test_the_adapter_alone_is_the_model_once_it_is_put_on_its_base(job, start, tmp_path):
    from peft import PeftModel

    config = job(student=LORA, max_steps=3)
    record = start(config, tmp_path)
    assert record["files"]["adapter"] == "adapter/"
    teacher = tiny_model("llama")
    base = build_student(StudentConfig(from_teacher=CutConfig(layers=1)), teacher, byte_tokenizer(), seed=config.seed)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        untrained = base.model.eval()(ids).logits
        adapted = PeftModel.from_pretrained(base.model, tmp_path / "adapter").eval()(ids).logits
        whole = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()(ids).logits
    torch.testing.assert_close(adapted, whole, rtol=1e-4, atol=1e-5)
    assert (whole - untrained).abs().max() > 1e-4
    start(job(max_steps=1), tmp_path / "plain")
    assert "adapter" not in json.loads((tmp_path / "plain" / "run.json").read_text())["files"]


def test_a_stream_says_what_it_skipped(job, start, kill_after, tmp_path, capsys):
    lines = [{"text": "" if i % 10 == 9 else f"{i} abcdefgh"} for i in range(30)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = job(max_steps=9, evaluate_every=8)
    config.dataset = DatasetConfig(path=str(tmp_path / "rows.jsonl"), max_length=64, streaming=True, heldout=3)
    whole = start(config, tmp_path / "whole")
    # 27 rows, 3 of them empty, are 6 steps of 4; the stream is read twice
    counts = whole["data"]["stream"]
    assert (counts["rows"], counts["examples"], sum(n for why, n in counts.items() if "skipped" in why)) == (54, 48, 6)
    assert "read from the stream: rows 54, examples 48" in capsys.readouterr().out
    with kill_after(9):
        start(config, tmp_path / "killed")
    assert start(config, tmp_path / "killed")["data"] == whole["data"]
    with kill_after(11):
        start(config, tmp_path / "late")
    assert start(config, tmp_path / "late")["data"] == whole["data"]


def test_only_the_tokens_that_were_measured_are_counted(job, start, tmp_path):
    config = job(max_steps=1, benchmark=BenchmarkConfig(tokens=40, samples=0, speed=False))
    record = start(config, tmp_path)
    assert 0 < record["tokens"]["heldout"] < record["data"]["heldout"]["tokens"]
    with (tmp_path / "metrics.csv").open() as file:
        (first, *_) = csv.DictReader(file)
    assert int(first["tokens"]) == record["tokens"]["heldout"]
    assert float(first["tokens_per_second"]) == pytest.approx(int(first["tokens"]) / float(first["seconds"]))


def test_resuming_a_finished_training_leaves_no_file_open(job, start, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("kdlab.training.session.save_model", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            start(job(max_steps=2), tmp_path)
    closed, close = [], MetricsFile.close
    monkeypatch.setattr(MetricsFile, "close", lambda self: (closed.append(self.path), close(self))[1])
    assert start(job(max_steps=2), tmp_path)["status"] == "finished"
    assert closed == [tmp_path / "metrics.csv"]


def test_the_average_is_what_is_evaluated_and_saved(job, start, tmp_path):
    start(job(ema=0.5, evaluate_every=6), tmp_path / "average")
    start(job(evaluate_every=6), tmp_path / "plain")
    trained = [[row for row in rows(tmp_path / name) if row["phase"] == "train"] for name in ("average", "plain")]
    assert trained[0] == trained[1]  # the average does not touch the training
    average = checkpoint(tmp_path / "average")["callbacks"]["Ema"]["average"]
    for name, weight in weights(tmp_path / "average").items():
        if name in average:
            assert torch.equal(weight, average[name])
    kl = {name: rows(tmp_path / name)[-1]["kl"] for name in ("average", "plain")}
    assert kl["average"] != kl["plain"]


def test_the_best_weights_can_be_the_final_ones(job, start, tmp_path):
    # a rate that soon is too large: the first evaluation is the best
    options = {"optimizer": SGD(lr=30.0, momentum=0.0), "clip": 0.0, "evaluate_every": 1, "max_steps": 4}
    record = start(job(**options, checkpoint=CheckpointConfig(final="best")), tmp_path)
    curve = {
        row["step"]: float(row["kl"]) for row in rows(tmp_path) if row["phase"] == "heldout" and row["step"] != "0"
    }
    best = min(curve, key=curve.get)
    assert best != "4"
    assert record["metrics"]["after"]["kl"] == curve[best]
    saved = checkpoint(tmp_path, "best")
    assert saved["kdlab"]["step"] == int(best)
    for name, weight in weights(tmp_path).items():
        assert torch.equal(weight, saved["state_dict"][f"student.{name}"])


def test_fine_tuning_without_a_teacher(job, start, tmp_path):
    student = StudentConfig(path="tiny:llama")
    config = job(teacher=TeacherConfig(source="none"), student=student, loss=LOSSES["hard"]())
    record = start(config, tmp_path)
    assert (record["metrics"]["teacher"], record["models"]["teacher"]) == (None, None)
    assert record["loss"]["name"] == "hard"
    assert record["metrics"]["after"]["nll"] < record["metrics"]["before"]["nll"]
    assert "kl" not in record["metrics"]["after"]
    assert {sample["teacher"] for sample in record["samples"]} == {None}


def test_tensorboard_gets_the_same_numbers(job, start, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    start(job(loggers=["tensorboard"], max_steps=3), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for phase, column in (("train", "loss"), ("heldout", "kl")):
        drawn = {event.step: event.value for event in events.Scalars(f"{phase}/{column}")}
        table = {int(row["step"]): float(row[column]) for row in rows(tmp_path) if row["phase"] == phase}
        assert drawn == pytest.approx(table)
