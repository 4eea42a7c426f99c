"""What teacher and untrained student are worth: measured once a run, kept in before.json for when it is continued."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.training.durable import read_json, write_json
from kdlab.training.evaluation import continuations, forward_speed, heldout_metrics, prompts

if TYPE_CHECKING:
    import torch

    from kdlab.training.data import DistillData
    from kdlab.training.pair import ModelPair
    from kdlab.training.recipe import BenchmarkConfig

OF_TEACHER = {"teacher_nll": "nll", "teacher_perplexity": "perplexity"}


@dataclass(frozen=True, kw_only=True)
class Before:
    """`student` and `teacher` are metrics for run.json, None without a teacher; `samples` have the keys prompt,
    teacher and before; `key` names everything they depend on."""

    key: str
    student: dict[str, Any]
    teacher: dict[str, Any] | None
    samples: list[dict[str, Any]]
    prompts: list[list[int]]
    seconds: float
    heldout_seconds: float


def measure(
    config: BenchmarkConfig,
    pair: ModelPair,
    tokenizer: Any,
    data: DistillData,
    *,
    device: torch.device,
    path: Path,
    key: str,
) -> Before:
    """Read `path` where it was written for the same `key`, else measure (both models in one pass) and write it."""
    kept = read_json(path)
    if isinstance(kept, dict) and kept.get("key") == key:
        return Before(**kept)
    began = time.perf_counter()
    split, teacher = pair.split, pair.teacher
    of_student: dict[str, Any] = dict(heldout_metrics(pair, data.heldout(), device=device))
    heldout_seconds = time.perf_counter() - began
    of_student["tokens_per_second"] = forward_speed(split, data.heldout(), device=device) if config.speed else None
    of_teacher: dict[str, Any] | None = None
    if teacher is not None:
        of_teacher = {name: of_student[found] for found, name in OF_TEACHER.items()}
        speed = forward_speed(teacher.split, data.heldout(), device=device) if config.speed else None
        of_teacher["tokens_per_second"] = speed
    asked = prompts(data.data.heldout, config.samples)
    length = config.max_new_tokens
    texts = [str(text) for text in tokenizer.batch_decode(asked, skip_special_tokens=True)] if asked else []
    by_student = continuations(split.model, tokenizer, asked, max_new_tokens=length, device=device)
    by_teacher: list[str | None] = [None] * len(asked)
    if teacher is not None:
        by_teacher = [*continuations(teacher.model, tokenizer, asked, max_new_tokens=length, device=device)]
    samples = [
        {"prompt": prompt, "teacher": theirs, "before": ours}
        for prompt, theirs, ours in zip(texts, by_teacher, by_student, strict=True)
    ]
    measured = Before(
        key=key,
        student=of_student,
        teacher=of_teacher,
        samples=samples,
        prompts=asked,
        seconds=time.perf_counter() - began,
        heldout_seconds=heldout_seconds,
    )
    write_json(path, asdict(measured))
    return measured
