"""Schedules against transformers' own, and where they begin and end."""

from __future__ import annotations

import pytest
import torch
from transformers import optimization

from kdlab.training.schedulers import KINDS, SchedulerConfig, build_scheduler, factor

DECAYING = ("linear", "cosine", "cosine_with_restarts", "polynomial")
TOTAL = 40


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def reference(kind: str, warmup: int) -> list[float]:
    """transformers' factors after `warmup` steps."""
    sgd = optimizer()
    steps = {"num_warmup_steps": warmup, "num_training_steps": TOTAL}
    schedule = {
        "linear": lambda: optimization.get_linear_schedule_with_warmup(sgd, **steps),
        "cosine": lambda: optimization.get_cosine_schedule_with_warmup(sgd, **steps),
        "cosine_with_restarts": lambda: optimization.get_cosine_with_hard_restarts_schedule_with_warmup(
            sgd, **steps, num_cycles=3
        ),
        "polynomial": lambda: optimization.get_polynomial_decay_schedule_with_warmup(
            sgd, **steps, lr_end=1e-12, power=2.0
        ),
        "constant": lambda: optimization.get_constant_schedule(sgd),
        "constant_with_warmup": lambda: optimization.get_constant_schedule_with_warmup(sgd, num_warmup_steps=warmup),
    }[kind]()
    factors = []
    for _ in range(TOTAL + 1):
        factors.append(schedule.get_last_lr()[0])
        sgd.step()
        schedule.step()
    return factors


@pytest.mark.parametrize("kind", KINDS)
def test_after_warm_up_every_kind_is_that_of_transformers(kind):
    warmup = 0 if kind == "constant" else 7
    config = SchedulerConfig(kind=kind, warmup_steps=warmup, cycles=3, power=2.0)
    ours = [factor(config, step, TOTAL) for step in range(TOTAL + 1)]
    assert ours[warmup:] == pytest.approx(reference(kind, warmup)[warmup:], abs=1e-9)


@pytest.mark.parametrize("kind", DECAYING)
@pytest.mark.parametrize("end", [0.0, 0.1])
@pytest.mark.parametrize("total", [1, 3, 40, 1001])
def test_a_decay_ends_at_exactly_its_end_value(kind, end, total):
    config = SchedulerConfig(kind=kind, end_lr_ratio=end, cycles=2, power=0.5)
    assert factor(config, total, total) == end
    assert all(end <= factor(config, step, total) <= 1 for step in range(total))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "constant"])
def test_warm_up_rises_to_the_full_rate_and_wastes_no_step(kind):
    config = SchedulerConfig(kind=kind, warmup_steps=4)
    assert [factor(config, step, 20) for step in range(5)] == [0.2, 0.4, 0.6, 0.8, 1.0]


def test_a_warm_up_ratio_is_of_all_optimiser_steps():
    by_ratio, by_steps = SchedulerConfig(warmup_ratio=0.1), SchedulerConfig(warmup_steps=3)
    assert [factor(by_ratio, step, 30) for step in range(31)] == [factor(by_steps, step, 30) for step in range(31)]


def test_the_built_scheduler_ends_at_its_end_value_at_the_last_step():
    sgd = optimizer()
    schedule = build_scheduler(SchedulerConfig(kind="cosine", end_lr_ratio=0.25), sgd, total=5)
    used = []
    for _ in range(5):
        used.append(sgd.param_groups[0]["lr"])
        sgd.step()
        schedule.step()
    assert used[0] == 1.0
    assert sgd.param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "triangle"},
        {"warmup_ratio": 1.5},
        {"warmup_steps": -1},
        {"kind": "constant", "warmup_steps": 3},
        {"cycles": 0},
        {"power": 0.0},
        {"end_lr_ratio": -0.1},
    ],
)
def test_an_impossible_value_is_refused_by_its_option(options):
    with pytest.raises(ValueError, match=r"^scheduler\."):
        SchedulerConfig(**options)


def test_a_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match=r"scheduler\.warmup_steps=50: this run has only 20"):
        build_scheduler(SchedulerConfig(warmup_steps=50), optimizer(), total=20)
