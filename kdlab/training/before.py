"""What teacher and untrained student are worth: measured once a run, kept in before.json for when it is continued."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.durable import read_json, write_json
from kdlab.losses.base import RowLoss
from kdlab.models.pair import CROSS
from kdlab.training.answers import Answers, begin, judge, questions, write
from kdlab.training.decisions import judged, told
from kdlab.training.evaluation import (
    continuations,
    forward_speed,
    heldout_metrics,
    prompts,
    teacher_prompts,
)
from kdlab.training.latency import speed

if TYPE_CHECKING:
    import torch

    from kdlab.losses.base import Loss
    from kdlab.teachers.base import Teacher
    from kdlab.training.data import DistillData
    from kdlab.training.pair import ModelPair
    from kdlab.training.recipe import BenchmarkConfig, GenerationConfig

OF_TEACHER = ("teacher_nll", "teacher_perplexity", "teacher_bits_per_byte", "teacher_cut_mass")
"""Metrics of a student's evaluation that are the teacher's own, there under the same name without `teacher_`."""


@dataclass(frozen=True, kw_only=True)
class Before:
    """`student` and `teacher` are metrics for run.json, None without a teacher; `samples` have the keys prompt,
    teacher (None where it is no model here) and before; `answers` are those of `benchmark.generation`, None without;
    `key` names everything they depend on."""

    key: str
    student: dict[str, Any]
    teacher: dict[str, Any] | None
    samples: list[dict[str, Any]]
    prompts: list[list[int]]
    answers: Answers | None
    seconds: float
    heldout_seconds: float


def measure(
    config: BenchmarkConfig,
    pair: ModelPair,
    tokenizer: Any,
    data: DistillData,
    *,
    loss: Loss,
    device: torch.device,
    path: Path,
    key: str,
) -> Before:
    """Read `path` where it was written for the same `key`, else measure (both models in one pass) and write it."""
    kept = read_json(path)
    if isinstance(kept, dict) and kept.get("key") == key:
        return Before(**kept)
    began = time.perf_counter()
    if pair.deciding is not None:
        measured = _decided(config, pair, tokenizer, data, device, key=key)
        write_json(path, asdict(measured))
        return measured
    of_student: dict[str, Any] = dict(heldout_metrics(pair, data.heldout(), device=device, loss=loss))
    heldout_seconds = time.perf_counter() - began
    of_teacher = _of_teacher(config, pair, data, of_student, device)
    of_student["tokens_per_second"] = forward_speed(pair.split, data.heldout(), device=device) if config.speed else None
    asked, samples = _samples(config, pair, tokenizer, data, device)
    answers = None
    if config.generation is not None:
        answers, found = _answers(config.generation, pair, tokenizer, data, device)
        of_student["generation"] = found["before"]
        if of_teacher is not None and "teacher" in found:
            of_teacher["generation"] = found["teacher"]
    measured = Before(
        key=key,
        student=of_student,
        teacher=of_teacher,
        samples=samples,
        prompts=asked,
        answers=answers,
        seconds=time.perf_counter() - began,
        heldout_seconds=heldout_seconds,
    )
    write_json(path, asdict(measured))
    return measured


def _decided(
    config: BenchmarkConfig, pair: ModelPair, tokenizer: Any, data: DistillData, device: torch.device, *, key: str
) -> Before:
    """As `measure`, of classifiers: on the held-out rows and, where there are some, on those to judge by at the end."""
    began = time.perf_counter()
    found = judged(pair, data.heldout(), device=device)
    heldout_seconds = time.perf_counter() - began
    of_student, of_teacher = found.student, found.teacher
    if data.data.test is not None:
        at_last = judged(pair, data.test(), device=device)
        of_student["test"] = at_last.student
        if of_teacher is not None:
            of_teacher["test"] = at_last.teacher
    of_student |= speed(config, pair.split, data.heldout(), device=device)
    if of_teacher is not None:
        assert pair.teacher is not None
        read = (pair.teacher_batch(batch) for batch in data.heldout())
        of_teacher |= speed(config, pair.teacher.split, read, device=device)
    return Before(
        key=key,
        student=of_student,
        teacher=of_teacher,
        samples=_told(config, pair, tokenizer, data, device),
        prompts=[],
        answers=None,
        seconds=time.perf_counter() - began,
        heldout_seconds=heldout_seconds,
    )


def _told(
    config: BenchmarkConfig, pair: ModelPair, tokenizer: Any, data: DistillData, device: torch.device
) -> list[dict[str, Any]]:
    """What is decided about the first held-out texts; the text as the student reads it, with its label below."""
    batch = data.first(config.samples)
    if batch is None:
        return []
    store, said = data.data.heldout, told(pair, batch, device=device)
    texts = tokenizer.batch_decode([store[i].input_ids for i in range(len(said))], skip_special_tokens=True)
    return [
        {"prompt": f"{text}\n\n[label: {row['label']}]", "teacher": row.get("teacher"), "before": row["student"]}
        for text, row in zip(texts, said, strict=True)
    ]


def refuse_cut_mass(loss: Loss, measured: Before) -> None:
    """Raise ValueError where cutting the vocabulary takes more of the teacher's probability than the loss allows."""
    cut = measured.student.get("teacher_cut_mass")
    if cut is None or not isinstance(loss, RowLoss) or cut <= loss.max_cut_mass:
        return
    raise ValueError(
        f"loss.vocab=shared: the ids that only the teacher has hold {cut:.2%} of its probability on the held-out rows, "
        f"above loss.max_cut_mass={loss.max_cut_mass:g}; choose {CROSS}, or raise loss.max_cut_mass"
    )


def _of_teacher(
    config: BenchmarkConfig, pair: ModelPair, data: DistillData, of_student: dict[str, Any], device: torch.device
) -> dict[str, Any] | None:
    """The teacher's own metrics, None without a teacher. Its speed is that of reading the text as it tokenises it; one
    that is no model here has none."""
    if pair.teacher is None:
        return None
    found: dict[str, Any] = {
        name.removeprefix("teacher_"): of_student[name] for name in OF_TEACHER if name in of_student
    }
    found["tokens_per_second"] = None
    if config.speed and pair.teacher.split is not None:
        read = (pair.teacher_batch(batch) for batch in data.heldout())
        found["tokens_per_second"] = forward_speed(pair.teacher.split, read, device=device)
    return found


def _samples(
    config: BenchmarkConfig, pair: ModelPair, tokenizer: Any, data: DistillData, device: torch.device
) -> tuple[list[list[int]], list[dict[str, Any]]]:
    """The prompts as the student reads them, and what both write after them (a teacher that is no model: nothing)."""
    store, length = data.data.heldout, config.max_new_tokens
    asked = prompts(store, config.samples)
    texts = [str(text) for text in tokenizer.batch_decode(asked, skip_special_tokens=True)] if asked else []
    by_student = continuations(pair.split.model, tokenizer, asked, max_new_tokens=length, device=device)
    by_teacher: list[str | None] = [None] * len(asked)
    if pair.teacher is not None and pair.teacher.model is not None:
        reader = _reader(pair.teacher, tokenizer, data)
        read = teacher_prompts(store, config.samples, tokenizer, reader)
        by_teacher = [*continuations(pair.teacher.model, reader, read, max_new_tokens=length, device=device)]
    return asked, [
        {"prompt": prompt, "teacher": theirs, "before": ours}
        for prompt, theirs, ours in zip(texts, by_teacher, by_student, strict=True)
    ]


def _reader(teacher: Teacher, tokenizer: Any, data: DistillData) -> Any:
    """The tokenizer that the teacher's prompts are in: its own where the data comes as both read it."""
    return tokenizer if data.data.heldout.teacher is None else teacher.tokenizer


def _answers(
    config: GenerationConfig, pair: ModelPair, tokenizer: Any, data: DistillData, device: torch.device
) -> tuple[Answers, dict[str, dict[str, Any]]]:
    """What teacher and student answer, and the metrics of each that is a model here."""
    asked = questions(data.data.heldout, tokenizer, examples=config.examples)
    answers = begin(asked, tokenizer, metrics=config.metrics)
    ids = [question.prompt for question in asked]
    written = write(config, pair.split.model, tokenizer, ids, device=device)
    found = {"before": judge(config, answers, "before", written)}
    if pair.teacher is not None and pair.teacher.model is not None:
        ids = [question.teacher_prompt for question in asked]
        reader = _reader(pair.teacher, tokenizer, data)
        written = write(config, pair.teacher.model, reader, ids, device=device)
        found["teacher"] = judge(config, answers, "teacher", written)
    return answers, found
