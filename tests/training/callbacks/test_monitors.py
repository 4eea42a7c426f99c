"""What TensorBoard and W&B are told: every row of metrics.csv once, from the first on."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from kdlab.training import trainer
from kdlab.training.callbacks.metrics import Metrics, Monitor, build_monitors
from kdlab.training.metrics_file import MetricsFile
from kdlab.training.stopping import RunFailed

TOKENS = {"WANDB_API_KEY": "0123456789abcdef" * 2 + "01234567", "HF_TOKEN": "hf_" + "Planted" * 5}


class Told:
    """A logger that keeps what it is told."""

    experiment = None

    def __init__(self):
        self.rows = []

    def log_metrics(self, numbers, step):
        self.rows.append((step, numbers))


def test_a_monitor_that_begins_has_the_rows_before_too(tmp_path):
    file = MetricsFile(tmp_path / "metrics.csv", step=-1)
    before = Metrics(file, steps_per_epoch=4)
    before.write(0, "heldout", {"kl": 0.1 + 0.2, "rows": 7})
    before.write(1, "train", {"loss": 1 / 3, "hard": None})
    before.write(2, "train", {"loss": 0.5})
    file.close()
    file = MetricsFile(tmp_path / "metrics.csv", step=1)
    begins, continues = Told(), Told()
    metrics = Metrics(file, steps_per_epoch=4)
    metrics.monitors = [Monitor(logger=begins, begins=True), Monitor(logger=continues, begins=False)]
    metrics.on_train_start(None, None)
    metrics.write(2, "train", {"loss": 0.25})
    file.close()
    assert continues.rows == [(2, {"train/loss": 0.25})]
    assert begins.rows == [
        (0, {"heldout/kl": 0.1 + 0.2, "heldout/rows": 7.0}),
        (1, {"train/loss": 1 / 3}),
        *continues.rows,
    ]


def test_a_run_tells_its_monitors_from_the_evaluation_before_training_on(job, start, tmp_path, monkeypatch):
    from lightning.pytorch.loggers import CSVLogger

    told = Told()
    logger = CSVLogger(tmp_path / "csv")
    monkeypatch.setattr(logger, "log_metrics", told.log_metrics)
    monkeypatch.setattr(trainer, "build_monitors", lambda *_, **__: [Monitor(logger=logger, begins=True)])
    start(job(max_steps=2), tmp_path / "run")
    assert [step for step, numbers in told.rows if "train/loss" in numbers] == [1, 2]
    assert [step for step, numbers in told.rows if "heldout/kl" in numbers] == [0, 2]


def test_without_a_key_wandb_is_one_line(tmp_path, monkeypatch):
    def refuse(**options):
        raise fake.errors.Error("No API key configured. Use `wandb login` to log in.\nAnd so on.")

    fake = SimpleNamespace(errors=SimpleNamespace(Error=type("Error", (Exception,), {})), init=refuse, Settings=dict)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with pytest.raises(RunFailed, match=r"^trainer\.loggers=\[wandb\]: W&B takes no run \(No API key") as told:
        build_monitors(["wandb"], output_dir=tmp_path, run_name="a", config={})
    assert "write trainer.loggers=[wandb_offline]; the same command goes on here" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_trainer_that_cannot_be_made_leaves_no_run_open(job, start, tmp_path, monkeypatch):
    """W&B's run is the process's: the next job would be added to it."""
    logger = SimpleNamespace(experiment=SimpleNamespace(finish=lambda: closed.append(True)))
    closed: list[bool] = []

    def refuse(**options):
        raise ValueError("no such device")

    monkeypatch.setattr(trainer, "build_monitors", lambda *_, **__: [Monitor(logger=logger, begins=True)])
    monkeypatch.setattr(trainer, "Trainer", refuse)
    with pytest.raises(ValueError, match="no such device"):
        start(job(max_steps=1), tmp_path / "run")
    assert closed == [True]


@pytest.mark.slow
def test_wandb_without_a_network_has_the_curves_and_no_token(job, start, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name, value in TOKENS.items():
        monkeypatch.setenv(name, value)
    assert start(job(loggers=["wandb_offline"], max_steps=3), tmp_path)["status"] == "finished"
    (kept,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    content = kept.read_bytes()
    assert content.count(b"train/loss") >= 3
    assert b"heldout/kl" in content
    for file in tmp_path.rglob("*"):
        if file.is_file():
            found = file.read_bytes()
            assert not any(value.encode() in found for value in TOKENS.values()), file


@pytest.mark.parametrize("step", [0, 1, 2])
def test_tensorboard_is_drawn_anew_by_a_run_that_is_continued(tmp_path, step):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (first,) = build_monitors(["tensorboard"], output_dir=tmp_path, run_name="a", config={})
    assert first.begins
    for at in (1, 2, 3):
        first.logger.log_metrics({"train/loss": 1.0}, step=at)
    first.logger.save()
    (second,) = build_monitors(["tensorboard"], output_dir=tmp_path, run_name="a", config={})
    assert second.begins, "steps that it was left out for come too"
    for at in range(1, step + 2):
        second.logger.log_metrics({"train/loss": 2.0}, step=at)
    second.logger.save()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [
        (at, 2.0) for at in range(1, step + 2)
    ]
