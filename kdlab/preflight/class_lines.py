"""A dataset with labels, as a run reads it: its classes, folds and leaks, and an example with its label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdlab.data.labelled.build import build_labelled
from kdlab.data.labelled.rows import Labelled, read_labelled
from kdlab.preflight.data_lines import say_signals
from kdlab.preflight.examples import pieces
from kdlab.preflight.findings import Section, plain
from kdlab.preflight.sketch import Sketches
from kdlab.preflight.workload import Workload, workload
from kdlab.teachers.cached import CachedTeacher

if TYPE_CHECKING:
    from kdlab.batch import Batch
    from kdlab.data.dataset import DatasetConfig
    from kdlab.text.task import Task
    from kdlab.training.recipe import TrainConfig

MANY = 0.1
"""A share of all tokens beyond which cutting them is warned of."""


def say_classes(section: Section, config: DatasetConfig) -> Labelled:
    """What is decided, how often each answer comes up in each part, and what leaks. Raises as `read_labelled`."""
    labelled = read_labelled(config)
    lines = str(labelled).splitlines()
    section.say("ok", lines[0])
    for line in lines[1:]:
        section.say("note", line.strip())
    return labelled


def build_classes(
    section: Section, config: TrainConfig, models: Sketches, labelled: Labelled
) -> tuple[Workload, dict[str, Any]]:
    """The steps and the numbers of the section. Raises as `build_labelled` does."""
    from kdlab.training.data import DistillData

    student, teacher = models.student, models.reader
    data = build_labelled(labelled, *models.reading_sides())
    pad = student.tokenizer.pad_token_id
    assert pad is not None, "a model's tokenizer is given a pad token where it is loaded"
    work = workload(config, DistillData(config, data, pad_id=int(pad)))
    for line in str(data.verdict).splitlines():
        section.say("note", line.strip())
    train = data.verdict.train
    if train is not None and train.cut_tokens > MANY * (train.tokens + train.cut_tokens):
        section.say(
            "warning", f"{train.cut_tokens:,} tokens, more than a tenth, are cut away", "raise dataset.max_length"
        )
    if isinstance(models.told, CachedTeacher):
        say_signals(section, config, models.told, data, student.tokenizer)
    first = work.batches[0]
    label = _label(first, labelled.task)
    for name, shown in pieces(first, student.tokenizer).items():
        section.show(f"an example as the student reads it: its {name}; its label: {label}", shown)
    if first.teacher is not None and teacher is not None:
        for name, shown in pieces(first.teacher, teacher.tokenizer).items():
            section.show(f"the same as the teacher reads it: its {name}", shown)
    example = {name: plain(shown) for name, shown in pieces(first, student.tokenizer).items()}
    return work, {"verdict": data.verdict.as_dict(), "example": example | {"label": label}}


def _label(batch: Batch, task: Task) -> str:
    """The label of the first example: the name of its class, or its number."""
    value = batch.labels_BT[0, 0].item()
    return f"{value:g}" if task.is_regression else task.names[int(value)]
