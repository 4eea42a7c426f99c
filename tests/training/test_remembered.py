"""A frozen classifier is asked once about each text, however many epochs there are."""

from __future__ import annotations

import csv
import json
from collections import Counter

import pytest
from safetensors.torch import load_file

from kdlab.data.dataset import DatasetConfig
from kdlab.data.labels import LabelsConfig
from kdlab.losses import ALL_LOSSES
from kdlab.models.classifier import load_classifier
from kdlab.models.student import StudentConfig
from kdlab.models.tiny import byte_tokenizer
from kdlab.models.writing import save_student
from kdlab.teachers.live import LiveTeacher
from kdlab.teachers.options import TeacherConfig
from kdlab.text.task import Task
from kdlab.training.recipe import BenchmarkConfig
from kdlab.training.remembered import FILE

ROWS = 12


@pytest.fixture
def classify(job, tmp_path):
    task = Task(kind="classification", names=("no", "yes"), column="label", template="{text}", max_length=16)
    save_student(
        load_classifier("tiny:llama", task=task, fresh_head=True, seed=5), byte_tokenizer(), tmp_path / "t", task
    )
    lines = [{"text": f"{'ab' if i % 2 else 'xyz'} {i}", "label": ("no", "yes")[i % 2]} for i in range(ROWS)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    labels = LabelsConfig(column="label", template="{text}")
    where = {"path": str(tmp_path / "rows.jsonl"), "cache_dir": str(tmp_path / "cache")}
    return lambda **options: job(
        dataset=DatasetConfig(**where, labels=labels, max_length=16, fold=0, folds=3),
        loss=ALL_LOSSES["forward_kl"](temperature=2.0),
        teacher=TeacherConfig(path=str(tmp_path / "t")),
        student=StudentConfig(path="tiny:llama"),
        benchmark=BenchmarkConfig(samples=0, speed=False),
        **{"evaluate_every": 2, **options},
    )


@pytest.fixture
def asked(monkeypatch):
    """How many times the teacher itself was asked about each text."""
    counts, signal = Counter(), LiveTeacher.signal

    def counted(self, batch, positions_N):
        mask_BT = batch.attention_mask_BT.bool()
        counts.update(
            ids_T[mask_T].numpy().tobytes() for ids_T, mask_T in zip(batch.input_ids_BT, mask_BT, strict=True)
        )
        return signal(self, batch, positions_N)

    monkeypatch.setattr(LiveTeacher, "signal", counted)
    return counts


def losses(folder):
    with (folder / "metrics.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["phase"] == "train"]


def test_each_text_is_asked_about_once_and_the_losses_are_the_same(classify, start, asked, tmp_path, monkeypatch):
    config = classify(max_steps=6)  # three epochs of two steps
    start(config, tmp_path / "once")
    heldout = {key for key, count in asked.items() if count == 2}  # measured before training, too
    assert len(asked) == ROWS
    assert len(heldout) == ROWS / 3
    assert set(asked.values()) == {1, 2}
    asked.clear()
    monkeypatch.setattr("kdlab.training.session.remembering", lambda config, loaded, folder, device: loaded.pair)
    start(config, tmp_path / "live")
    assert min(asked.values()) == 3
    assert losses(tmp_path / "once") == pytest.approx(losses(tmp_path / "live"), rel=1e-5)


def test_one_epoch_asks_as_it_goes(classify, start, tmp_path):
    start(classify(max_steps=2), tmp_path / "run")
    assert not (tmp_path / "run" / FILE).exists()


@pytest.mark.slow
@pytest.mark.parametrize("damage", [None, "damaged", "of another teacher"])
def test_who_continues_reads_what_was_said(classify, start, kill_after, asked, tmp_path, damage):
    config, folder = classify(max_steps=6), tmp_path / "run"
    start(config, tmp_path / "whole")
    with kill_after(5):
        start(config, folder)
    (told,) = load_file(folder / FILE).values()
    assert told.shape == (ROWS, 2)
    if damage == "damaged":
        (folder / FILE).write_bytes((folder / FILE).read_bytes()[:50])
    elif damage is not None:
        (folder / FILE).write_bytes((tmp_path / "t" / "model.safetensors").read_bytes())
    asked.clear()
    start(config, folder)
    assert bool(asked) == (damage is not None)
    assert losses(folder) == losses(tmp_path / "whole")
