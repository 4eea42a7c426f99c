"""When a checkpoint is written."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kdlab.training.callbacks import checkpoint
from kdlab.training.callbacks.checkpoint import Checkpoints
from kdlab.training.recipe import CheckpointConfig


def saved_steps(tmp_path, rules, *, improves=(), steps=12, clock=None, monkeypatch=None):
    """The steps after which `rules` write a checkpoint, in 12 steps of 5 an epoch."""
    benchmark, saved = SimpleNamespace(best_step=0, stopped=False), []

    class Trainer(SimpleNamespace):
        def save_checkpoint(self, path):
            path.parent.mkdir(exist_ok=True)
            path.write_text(str(self.global_step))
            saved.append(self.global_step)

    callback = Checkpoints(
        tmp_path / "checkpoints",
        rules,
        benchmark,
        SimpleNamespace(file=None),
        options={},
        data={},
        teacher=None,
        total_steps=steps,
        steps_per_epoch=5,
    )
    trainer = Trainer(global_step=0, world_size=1, is_global_zero=True, should_stop=False, ckpt_path=None)
    callback.on_train_start(trainer, None)
    for step in range(1, steps + 1):
        trainer.global_step = step
        if step in improves:
            benchmark.best_step = step
        if clock is not None:
            now = clock(step)
            monkeypatch.setattr(checkpoint.time, "monotonic", lambda now=now: now)
        callback.on_train_batch_end(trainer, None, None, None, 0)
    return saved


NEVER = {"every_steps": None, "every_epochs": None, "every_minutes": None}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (NEVER, [12]),
        (NEVER | {"every_steps": 4}, [4, 8, 12]),
        (NEVER | {"every_epochs": 1}, [5, 10, 12]),
        (NEVER | {"every_epochs": 2}, [10, 12]),
        (NEVER | {"every_steps": 4, "every_epochs": 1}, [4, 5, 8, 10, 12]),
    ],
)
def test_rules_in_steps_and_epochs(tmp_path, rules, expected):
    assert saved_steps(tmp_path, CheckpointConfig(**rules)) == expected


def test_the_rule_in_minutes_counts_from_the_last_checkpoint(tmp_path, monkeypatch):
    began = checkpoint.time.monotonic()
    rules = CheckpointConfig(**NEVER | {"every_steps": 5, "every_minutes": 3.0})
    found = saved_steps(tmp_path, rules, clock=lambda step: began + 60 * step + 1, monkeypatch=monkeypatch)
    assert found == [3, 5, 8, 10, 12]


def test_a_new_best_is_written_and_kept_beside_the_last(tmp_path):
    assert saved_steps(tmp_path, CheckpointConfig(**NEVER), improves=(3, 7)) == [3, 7, 12]
    folder = tmp_path / "checkpoints"
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"last.ckpt": "12", "best.ckpt": "7"} or (
        (folder / "best.ckpt").samefile(folder / "last.ckpt")
    )


def test_without_best_only_the_last_is_kept(tmp_path):
    assert saved_steps(tmp_path, CheckpointConfig(**NEVER, best=False), improves=(3, 7)) == [12]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]
