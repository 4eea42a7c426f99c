"""The findings about the models themselves: what they are, and what they and this processor cannot do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from kdlab.models import dtype as dtypes
from kdlab.preflight.findings import Section, count, size
from kdlab.preflight.inner_terms import refuse_layers
from kdlab.preflight.live import inner
from kdlab.preflight.sketch import Sketch, Sketches

if TYPE_CHECKING:
    from kdlab.teachers.base import Teacher
    from kdlab.training.recipe import TrainConfig

RELATIVE = ("t5", "mt5", "umt5", "longt5")
"""Models without positions of their own, whatever their config says."""


def say_models(section: Section, models: Sketches) -> dict[str, Any]:
    """Where both come from, and how big they are."""
    numbers: dict[str, Any] = {"teacher": None}
    sides: list[tuple[str, Sketch | None]] = [("teacher", models.teacher), ("student", models.student)]
    for whose, side in sides:
        if side is None and models.told is not None:
            numbers[whose] = say_told(section, models.told)
            continue
        if side is None:
            section.say("note", "no teacher: the labels alone teach")
            continue
        found = side.size
        numbers[whose] = {**found.as_dict(), "source": side.description, "dtype": dtype_name(side)}
        trained = f", {count(found.trainable_parameters)} of them trained" if whose == "student" else ""
        packed = {"none": "", "files": ", packed as its files are"}.get(side.packed, f", packed as {side.packed}")
        line = f"{whose}: {count(found.parameters)} parameters{trained}, {dtype_name(side)}{packed}, {side.description}"
        section.say("ok", line)
        if side.weightless:
            section.say(
                "unknown",
                f"{side.description}: has a config and no weights: what follows is for those that it describes",
                "a run needs them: *.safetensors",
            )
    return numbers


def say_told(section: Section, teacher: Teacher) -> dict[str, Any]:
    """A teacher that is no model here."""
    on_disk = "" if teacher.disk_bytes is None else f", {size(teacher.disk_bytes)} on disk"
    section.say("ok", f"teacher: no model here; {teacher.description}{on_disk}")
    section.say("note", "the teacher's own texts, answers and speed are left out of the report")
    return {"source": teacher.description, "disk_bytes": teacher.disk_bytes, "parameters": None}


def dtype_name(side: Sketch) -> str:
    return str(inner(side.model).dtype).removeprefix("torch.")


def say_limits(section: Section, config: TrainConfig, models: Sketches, device: torch.device) -> None:
    """What these models, on this processor, cannot do."""
    student = inner(models.student.model)
    if config.trainer.gradient_checkpointing and not getattr(student, "supports_gradient_checkpointing", False):
        section.say(
            "failure",
            f"trainer.gradient_checkpointing=true: {student.config.model_type} does not support it",
            "trainer.gradient_checkpointing=false",
        )
    told: list[tuple[str, str, str]] = []
    if config.trainer.precision == "bf16-mixed":
        told.append(("trainer.precision=bf16-mixed", "bfloat16", "trainer.precision=32"))
    for option, asked in (("teacher.dtype", config.teacher.dtype), ("student.dtype", config.student.dtype)):
        if asked in ("bfloat16", "float16"):
            told.append((f"{option}={asked}", asked, f"{option}=auto"))
    if not dtypes.native_bfloat16(device):
        for option, what, remedy in told:
            section.say(
                "warning",
                f"{option}: this {device.type} emulates {what}; it saves memory and is slower than float32",
                remedy,
            )
    if config.trainer.precision == "16-mixed" and device.type == "cpu":
        section.say(
            "warning", "trainer.precision=16-mixed: Lightning takes bf16-mixed instead on a CPU", "trainer.precision=32"
        )
    try:
        refuse_layers(config.inner, models)
    except ValueError as error:
        section.say("failure", str(error))
    for whose, side in (("teacher", models.teacher), ("student", models.student)):
        if side is not None:
            length = config.dataset.max_length
            say_positions(section, whose, side, length, what=f"dataset.max_length={length}")


def say_positions(
    section: Section, whose: str, side: Sketch, asked: int, *, what: str, remedy: str | None = None
) -> None:
    """Whether a model has a place for every one of `asked` tokens, which `what` asks for. `remedy` is None where
    `dataset.max_length` is one."""
    text = side.config.get_text_config()
    most = getattr(text, "max_position_embeddings", None)
    if not isinstance(most, int) or asked <= most or side.config.model_type in RELATIVE:
        return
    learned = any("position" in name or "wpe" in name for name, _ in inner(side.model).named_parameters())
    line = f"{what}: the {whose} was made for {most} positions"
    section.say(
        "failure" if learned else "warning",
        f"{line}{', and has no others' if learned else ''}",
        remedy or f"dataset.max_length={most}",
    )
