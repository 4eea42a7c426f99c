"""A run's teacher and student. A teacher that is no model here (a cache, a server) lends its tokenizer, not weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.data.dataset import Side
from kdlab.models.pair import check_pair, reads_alike
from kdlab.models.student import build_student
from kdlab.teachers.cache.manifest import BINDING_TEACHER
from kdlab.teachers.opening import open_teacher

if TYPE_CHECKING:
    import torch

    from kdlab.models.student import Student
    from kdlab.teachers.base import Teacher
    from kdlab.teachers.cached import CachedTeacher
    from kdlab.text.task import Task
    from kdlab.training.recipe import TrainConfig


def load_models(
    config: TrainConfig, *, device: torch.device, task: Task | None = None
) -> tuple[Teacher | None, Student]:
    """Both models on `device`, the pair checked before any weight is read: classifiers where there is a `task`. Raises
    ValueError or FileNotFoundError, in one line, for models that are nowhere or do not go together."""
    # A cache or a server is opened without reading weights, and says itself what it predicts over.
    teacher = None if config.teacher.source == "live" else open_teacher(config.teacher)
    check_pair(config.student, config.teacher, pairing=config.loss.pairing, opened=teacher, task=task)
    if config.teacher.source == "live":
        teacher = open_teacher(config.teacher, config.quantization, device=device, task=task)
    student = build_student(
        config.student,
        lent_weights(config, teacher),
        None if teacher is None else teacher.tokenizer,
        seed=config.seed,
        device=device,
        pairing=config.loss.pairing,
        teacher_entries=None if teacher is None else teacher.vocabulary,
        task=task,
    )
    if task is not None and teacher is not None:
        refuse_inner(config, teacher, student)
    student.model.to(device)
    return teacher, student


def refuse_inner(config: TrainConfig, teacher: Teacher, student: Student) -> None:
    """Raise ValueError where inner terms are to compare two classifiers that cut a text into other tokens."""
    for name in config.inner.terms():
        if not reads_alike(student.tokenizer, teacher.tokenizer):
            raise ValueError(
                f"inner.{name}: compares position by position, but student and teacher read with different tokenizers: "
                "choose inner=none, or two models of one tokenizer"
            )


def heldout_judge(config: TrainConfig, teacher: Teacher | None) -> CachedTeacher | None:
    """The cache that judges held-out rows in the teacher's place (`teacher.heldout`). Raises ValueError where it is of
    another teacher."""
    path = config.teacher.heldout
    if path is None:
        return None
    from kdlab.teachers.cached import CachedTeacher

    assert isinstance(teacher, CachedTeacher)
    judge = CachedTeacher.open(replace(config.teacher, path=path), option="teacher.heldout")
    theirs, ours = judge.cache.manifest.teacher, teacher.cache.manifest.teacher
    if any(theirs[name] != ours[name] for name in BINDING_TEACHER):  # the same model may lie in several places
        raise ValueError(f"{judge.name}: is of another teacher than {teacher.name}; give a cache of the same one")
    return judge


def lent_weights(config: TrainConfig, teacher: Teacher | None) -> Any:
    """The model that a student may be cut from: the teacher's own; of a cache the one that it is of, read for that
    alone. None where there is none."""
    if teacher is None or teacher.model is not None or config.student.from_teacher is None:
        return None if teacher is None else teacher.model
    if config.teacher.source != "cached":
        raise ValueError(
            f"student.from_teacher: teacher={config.teacher.source} has no weights here to cut; give student.path"
        )
    from kdlab.teachers.cached import CachedTeacher

    assert isinstance(teacher, CachedTeacher)
    return model_of(teacher, trust_remote_code=config.teacher.trust_remote_code)


def model_of(teacher: CachedTeacher, *, trust_remote_code: bool = False) -> Any:
    """The model whose signals a cache holds, on the CPU, in the number format it spoke in; of a packed one the plain
    weights. Raises ValueError where what lies there now is another, or where the cache was made by a server."""
    from kdlab.models.loading import load_language_model

    told = teacher.cache.manifest.teacher
    if told["weight_hash"] is None:
        raise ValueError(
            f"student.from_teacher: {teacher.name} was written by a server, so there are no weights to cut; "
            "give student.path"
        )
    model = load_language_model(
        told["path"],
        revision=told["revision"],
        dtype="bfloat16" if told["quantization"] != "none" else told["dtype"],
        trust_remote_code=trust_remote_code,
        option="student.from_teacher: teacher.path",
    )
    refuse_changed(teacher)  # once the weights are here: they may have been downloaded just now
    return model


def refuse_changed(teacher: CachedTeacher) -> None:
    """Raise ValueError where the model that a cache is of has other weights now than it had then."""
    from kdlab.models.source import resolve
    from kdlab.models.weights_hash import source_hash

    told = teacher.cache.manifest.teacher
    now = source_hash(resolve(told["path"], told["revision"], option="student.from_teacher: teacher.path"))
    if now != told["weight_hash"]:
        raise ValueError(
            f"student.from_teacher: {teacher.name} is of other weights than {told['path']} has now "
            f"({told['weight_hash'][:12]} and {now[:12]}); write the cache again, or give student.path"
        )


def refuse_other(teacher: Teacher | None, was: str | None, config: TrainConfig, *, where: Path) -> None:
    """Raise ValueError where a checkpoint was made with a teacher of another identity than this one (None: it does not
    say), under the same options: a model trained anew, or a cache written anew, in the same place."""
    if teacher is None or was is None or was == teacher.identity:
        return
    what = "weights" if teacher.model is not None else "signals"
    raise ValueError(
        f"teacher.path={config.teacher.path}: its {what} are others than those that the checkpoint in {where} was made "
        f"with (now {teacher.identity[:12]}, then {was[:12]}); put the old ones back, give this run another name=, or "
        "delete that folder"
    )


def sides(config: TrainConfig, teacher: Teacher | None, student: Student) -> tuple[Side, Side | None]:
    """How the student reads text, and how a teacher does that has a tokenizer of its own (None: as the student)."""
    return _side(student), None if teacher is None or config.loss.pairing != "cross" else their_side(teacher)


def _side(reader: Any) -> Side:
    """How a model reads text, as its student or live teacher holds it."""
    entries = int(reader.model.get_input_embeddings().weight.shape[0])
    return Side(tokenizer=reader.tokenizer, seq2seq=bool(reader.model.config.is_encoder_decoder), entries=entries)


def their_side(teacher: Teacher) -> Side:
    """How a teacher reads text; a cache says whether it is that of an encoder-decoder, and a server never is."""
    from kdlab.teachers.cached import CachedTeacher

    if teacher.model is not None:
        return _side(teacher)
    seq2seq = isinstance(teacher, CachedTeacher) and teacher.seq2seq
    return Side(tokenizer=teacher.tokenizer, seq2seq=seq2seq, entries=teacher.vocabulary)
