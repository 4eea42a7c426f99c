"""A step whose float16 gradient overflows moves no weight: then schedule and average hold still too."""

from __future__ import annotations

import torch

from kdlab.training.callbacks.ema import Ema
from kdlab.training.module import Distiller


def test_a_skipped_step_moves_neither_schedule_nor_average(job, start, tmp_path, monkeypatch):
    overflows = {2, 3}
    seen: list[dict[str, object]] = []
    backward, update = Distiller._backward, Ema.update
    begin, configure = Distiller.training_step, Distiller.configure_optimizers

    def poisoned(self, *arguments, **options):
        backward(self, *arguments, **options)
        if self.trainer.global_step + 1 in overflows:
            next(p for p in self.student.parameters() if p.grad is not None).grad[0] = float("inf")

    def configured(self):
        """As on a GPU: for a CPU Lightning brings no scaler."""
        self.trainer.precision_plugin.scaler = torch.amp.GradScaler("cpu")
        return configure(self)

    def step(self, batch, batch_idx):
        begin(self, batch, batch_idx)
        weight = next(self.student.parameters()).detach().clone()
        seen.append({"skipped": self.skipped, "rate": self.result.learning_rate, "weight": weight, "averaged": False})

    def averaged(self, student):
        seen[-1]["averaged"] = True
        update(self, student)

    monkeypatch.setattr(Distiller, "_backward", poisoned)
    monkeypatch.setattr(Distiller, "configure_optimizers", configured)
    monkeypatch.setattr(Distiller, "training_step", step)
    monkeypatch.setattr(Ema, "update", averaged)
    start(job(precision="16-mixed", ema=0.9, max_steps=5), tmp_path)
    assert [row["skipped"] for row in seen] == [False, True, True, False, False]
    assert [row["averaged"] for row in seen] == [True, False, False, True, True]
    rates = [row["rate"] for row in seen]
    assert rates[1] == rates[2] == rates[3]
    assert rates[0] > rates[1] > rates[4]
    assert torch.equal(seen[0]["weight"], seen[2]["weight"])
    assert not torch.equal(seen[2]["weight"], seen[3]["weight"])
    scale = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["MixedPrecision"]["scale"]
    assert scale == 65536 / 4
