"""Time: operations counted by hand, and how often held-out data is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from kdlab.preflight.duration import SLOWER, evaluations_while, forward, head, predict_time
from kdlab.preflight.live import Shape
from kdlab.preflight.machine import Speed
from kdlab.preflight.sketch import sketch
from kdlab.preflight.workload import Reading, Workload
from kdlab.training.recipe import TrainConfig

Config = Callable[..., TrainConfig]
LAYER = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128
"""Weights of the matrices in a layer of tiny:llama."""


def work(steps: int = 10, per_epoch: int | None = 5) -> Workload:
    reads, once, shape = (
        Reading(positions=100, rows=40),
        Reading(positions=200, rows=80),
        Shape(batch=4, width=32, rows=40),
    )
    return Workload(
        steps=steps,
        steps_per_epoch=per_epoch,
        tokens_per_step=90,
        student=reads,
        teacher=reads,
        student_evaluation=once,
        teacher_evaluation=once,
        largest=shape,
        teacher_largest=shape,
        heldout=shape,
        teacher_heldout=shape,
        batches=[],
    )


def test_operations_by_hand(config: Config) -> None:
    teacher = sketch(config(), torch.device("cpu")).teacher
    assert teacher is not None
    reads = Reading(positions=100, rows=40)
    assert forward(teacher, reads, width=32) == 100 * (2 * 2 * LAYER + 2 * 32 * 64 * 2)
    assert head(teacher, reads) == 2 * 259 * 64 * 40


def test_an_encoder_and_a_decoder_read_their_own(config: Config) -> None:
    teacher = sketch(config("teacher.path=tiny:t5"), torch.device("cpu")).teacher
    assert teacher is not None
    both = forward(teacher, Reading(positions=10, rows=10, source=10), width=8)
    source = forward(teacher, Reading(positions=0, rows=10, source=10), width=8)
    target = forward(teacher, Reading(positions=10, rows=10, source=0), width=8)
    assert both == source + target
    assert target > source > 0


def test_a_step_is_its_operations_over_the_speed(config: Config) -> None:
    told = config("benchmark.speed=false", "benchmark.samples=0")
    models = sketch(told, torch.device("cpu"))
    assert models.teacher is not None
    endless = float("inf")
    speed = Speed(products=1e6, copied=endless, softmaxes=endless)
    found = predict_time(told, models, work(), speed=speed, teacher_speed=speed, optimizer_bytes=1000)
    reads = Reading(positions=100, rows=40)
    student, teacher = forward(models.student, reads, width=32), forward(models.teacher, reads, width=32)
    heads = 3 * head(models.student, reads) + head(models.teacher, reads)
    assert found.step == pytest.approx(SLOWER * (3 * student + teacher + heads) / 1e6)
    assert found.train == pytest.approx(10 * found.step)
    faster = replace(speed, products=2e6)
    assert predict_time(
        told, models, work(), speed=faster, teacher_speed=faster, optimizer_bytes=0
    ).step == pytest.approx(found.step / 2)


@pytest.mark.parametrize(
    ("every", "per_epoch", "count"), [("4", 5, 3), ("null", 5, 2), ("null", None, 1), ("20", 5, 1)]
)
def test_evaluations(config: Config, every: str, per_epoch: int | None, count: int) -> None:
    assert evaluations_while(config(f"trainer.evaluate_every={every}"), work(per_epoch=per_epoch)) == count
