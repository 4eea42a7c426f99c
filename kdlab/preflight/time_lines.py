"""The findings about time: steps, tokens and hours, from a probe of the device."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from kdlab.preflight.benchmarks import Suites, suites_seconds
from kdlab.preflight.duration import predict_time
from kdlab.preflight.findings import Section, span
from kdlab.preflight.live import inner
from kdlab.preflight.machine import Speed, probe
from kdlab.preflight.memory import Memory
from kdlab.preflight.memory_lines import autocast_of
from kdlab.preflight.sketch import Sketch, Sketches
from kdlab.preflight.workload import Workload

if TYPE_CHECKING:
    from kdlab.training.recipe import TrainConfig

BUSY = 0.75
"""Processes at work for each core, above which a probe of the processor measures them too."""


def say_time(
    section: Section,
    config: TrainConfig,
    models: Sketches,
    work: Workload,
    device: torch.device,
    memory: Memory,
    suites: Suites | None,
) -> dict[str, Any]:
    """How many steps, and how long they and the benchmarks take. Returns the numbers."""
    speed = _speed(config, models.student, work, device, autocast_of(config, device))
    teacher_speed = speed
    if models.teacher is not None and inner(models.teacher.model).dtype != inner(models.student.model).dtype:
        teacher_speed = _speed(config, models.teacher, work, device, None)
    state = next((part.bytes for part in memory.parts if part.name == "optimiser state"), 0)
    trained = sum(p.numel() * p.element_size() for p in models.student.trainable)
    others = {} if suites is None else suites_seconds(suites, config, models, speed=speed, teacher_speed=teacher_speed)
    found = predict_time(
        config,
        models,
        work,
        speed=speed,
        teacher_speed=teacher_speed,
        optimizer_bytes=2 * state + 3 * trained,
        suites=sum(others.values()),
    )
    epochs = ""
    if work.steps_per_epoch:
        epochs = f", {work.steps / work.steps_per_epoch:,.2f} epochs of {work.steps_per_epoch:,}"
    tokens = f"about {work.tokens:,.0f} tokens, {work.tokens_per_step:,.0f} a step"
    section.say("ok", f"{work.steps:,} steps{epochs}; {tokens}")
    low, high = found.between
    section.say(
        "note",
        f"about {span(found.total)}, between {span(low)} and {span(high)}: {span(found.step)} a step, "
        f"{found.evaluations} evaluations of {span(found.once)}; "
        f"a probe multiplies at {speed.products / 1e9:,.0f} GFLOP/s on {device.type}",
    )
    if others:
        told = ", ".join(f"{what} {span(seconds)}" for what, seconds in others.items())
        section.say("note", f"of that the benchmarks, with answers as long as they may be: {told}")
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if device.type == "cpu" and busy > BUSY * (os.cpu_count() or 1):
        section.say("note", f"about {busy:.0f} other processes are at work: alone, the run is faster than this")
    numbers = {"steps": work.steps, "steps_per_epoch": work.steps_per_epoch, "tokens": work.tokens}
    return {**found.as_dict(), **numbers, "benchmark_seconds": others}


def _speed(config: TrainConfig, side: Sketch, work: Workload, device: torch.device, dtype: torch.dtype | None) -> Speed:
    """The device's speed with the shapes of one model's layers."""
    wide = int(getattr(side.config.get_text_config(), "intermediate_size", None) or 4 * side.hidden)
    rows = work.largest.batch * work.largest.width
    kind = dtype or inner(side.model).dtype
    return probe(device, dtype=kind, rows=rows, hidden=side.hidden, wide=wide, threads=config.trainer.threads)
