"""Rules on what kind of models teacher and student are: causal, encoder-decoder, encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdlab.config.families import is_t5, kind_of, kind_of_family
from kdlab.config.teachers import model_path

if TYPE_CHECKING:
    from kdlab.training.recipe import TrainConfig


def check_kinds(config: TrainConfig) -> None:
    """Student and teacher are of one kind, as far as names tell, and an encoder-decoder gets what it can work with. Two
    that decide about texts may be of any."""
    if config.dataset.labels is not None:
        return
    sides = [*_teacher_kind(config), *student_kind(config)]
    if len({kind for _, kind in sides if kind}) > 1 and config.loss.pairing != "cross":
        (their_name, theirs), (name, kind) = sides
        raise ValueError(
            f"{name}: {_KIND[kind]}, but {their_name} is {_KIND[theirs]}: choose two of one kind, or a cross-tokenizer "
            "loss such as loss=uld_hybrid"
        )
    for name, kind in sides:
        if kind != "encoder-decoder":
            continue
        for option, on in (("pack", config.dataset.pack), ("streaming", config.dataset.streaming)):
            if on:
                raise ValueError(
                    f"dataset.{option}=true: {name} is an encoder-decoder model, which cannot have it: "
                    f"write dataset.{option}=false"
                )
    halves = [
        ("trainer.precision", config.trainer.precision, "16-mixed", "bf16-mixed or 32"),
        ("student.dtype", config.student.dtype, "float16", "bfloat16 or float32"),
    ]
    for option, value, half, remedy in halves:
        if value == half and _student_is_t5(config):
            raise ValueError(
                f"{option}={half}: the student is a T5, whose feed-forward layers leave float16 and give nan: "
                f"use {remedy}"
            )


_KIND = {"causal": "a causal model", "encoder-decoder": "an encoder-decoder model"}


def check_target(config: TrainConfig) -> None:
    """Only an encoder-decoder has a target with a length of its own. The student is of the teacher's kind, unless a
    cross-tokenizer loss joins two kinds."""
    asked = config.dataset.max_target_length
    of_student, of_teacher = student_kind(config), _teacher_kind(config)
    alone = bool(of_student) and config.loss.pairing == "cross"
    for name, kind in of_student if alone else [*of_teacher, *of_student]:
        if asked is not None and kind == "causal":
            raise ValueError(
                f"dataset.max_target_length={asked}: {name} is a causal model, and only an encoder-decoder has a "
                "target apart from the source: write dataset.max_length, and dataset.max_target_length=null"
            )


def _teacher_kind(config: TrainConfig) -> list[tuple[str, str]]:
    """What names the teacher, as the user typed it, and its kind; nothing where there is none."""
    path = model_path(config)
    return [(f"teacher.path={config.teacher.path}", kind_of(path))] if path else []


def student_kind(config: TrainConfig) -> list[tuple[str, str]]:
    """What names the student, as the user typed it, and its kind; nothing where it is made of the teacher."""
    student = config.student
    if student.path:
        return [(f"student.path={student.path}", kind_of(student.path))]
    if student.architecture:
        family = student.architecture["model_type"]
        return [(f"student.architecture.model_type={family}", kind_of_family(str(family)))]
    return []


def _student_is_t5(config: TrainConfig) -> bool:
    student = config.student
    if student.architecture:
        return is_t5(str(student.architecture["model_type"]))
    return is_t5(student.path or model_path(config) or "")
