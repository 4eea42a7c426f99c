"""The dataset of a run, built as the run builds it: its verdict, and one example with what is supervised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdlab.data.dataset import Data, build
from kdlab.data.store import TokenStore
from kdlab.preflight.examples import LONGEST, PROMPTED, pieces, span_pieces
from kdlab.preflight.findings import Section, plain
from kdlab.preflight.model_lines import say_positions
from kdlab.preflight.sketch import Sketches
from kdlab.preflight.tokenizers import say_ends
from kdlab.preflight.workload import Workload, workload
from kdlab.teachers.cached import CachedTeacher

if TYPE_CHECKING:
    from kdlab.training.recipe import TrainConfig

PLAIN = "text"
"""The format of plain text: long documents become several examples, of which only the last has an end."""
SPANS = 24
"""Spans of a cross-tokenizer example that are shown."""


def build_data(section: Section, config: TrainConfig, models: Sketches) -> tuple[Workload, dict[str, Any]]:
    """The steps and the numbers of the section. Raises as `data.dataset.build` does."""
    from kdlab.training.answers import questions
    from kdlab.training.data import DistillData

    student, teacher = models.student, models.reader
    cross = teacher is not None and config.loss.pairing == "cross"
    data = build(config.dataset, *models.sides(config.loss.pairing), prompt=config.prompt)
    tokenizer = student.tokenizer
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    work = workload(config, DistillData(config, data, pad_id=int(pad or 0)))
    for line in str(data.verdict).splitlines():
        section.say("note", line.strip())
    train = data.verdict.train
    if train is not None and train.cut_tokens > (train.tokens + train.cut_tokens) // 10:
        section.say(
            "warning", f"{train.cut_tokens:,} tokens, more than a tenth, are cut away", "raise dataset.max_length"
        )
    if config.benchmark.generation is not None:
        try:
            questions(data.heldout, tokenizer, examples=1)
        except ValueError as error:
            section.say("failure", str(error))
    if isinstance(models.told, CachedTeacher):
        say_signals(section, config, models.told, data, tokenizer)
    ends = say_ends(section, models, work, chat=data.verdict.format != PLAIN)
    first = work.batches[0]
    shown_tokens = LONGEST if data.verdict.prompt is None else PROMPTED
    for name, shown in pieces(first, tokenizer, longest=shown_tokens).items():
        section.show(f"an example as the student reads it: its {name}", shown)
    if first.teacher is not None and teacher is not None:
        reader = teacher.tokenizer if cross else tokenizer
        for name, shown in pieces(first.teacher, reader, longest=shown_tokens).items():
            section.show(f"the same as the teacher reads it: its {name}", shown)
        if models.teacher is not None:
            longest, remedy = _longest(data), "lower dataset.max_length, or shorten prompt.teacher"
            what = f"the longest example has {longest:,} tokens as the teacher reads it"
            say_positions(section, "teacher", models.teacher, longest, what=what, remedy=remedy)
    spans = span_pieces(first, tokenizer, teacher.tokenizer if cross and teacher is not None else None)
    if spans is not None:
        for whose, texts in zip(("student", "teacher"), spans, strict=True):
            cut = "|".join(texts[:SPANS])
            section.say("note", f"spans of the {whose} (| between spans, · between tokens): {cut!r}")
    example = {name: plain(shown) for name, shown in pieces(first, tokenizer).items()}
    return work, {"verdict": data.verdict.as_dict(), "example": example, "ends": ends}


def say_signals(section: Section, config: TrainConfig, teacher: CachedTeacher, data: Data, tokenizer: Any) -> None:
    """Whether the cache holds a signal for every example."""
    from kdlab.training.lookup import refuse_missing
    from kdlab.training.models import heldout_judge

    try:
        asked = refuse_missing(teacher, heldout_judge(config, teacher), config, data, tokenizer)
    except ValueError as error:
        section.say("failure", str(error))
        return
    section.say("ok", f"teacher.path={config.teacher.path}: has a signal for all of {asked:,} examples")


def _longest(data: Data) -> int:
    """The most positions that the teacher reads at once, where it reads by itself; an encoder reads the source."""
    stores = [store.teacher for store in (data.train, data.heldout) if isinstance(store, TokenStore)]
    lengths = [store.source_lengths if store.seq2seq else store.lengths for store in stores if store is not None]
    return max(int(found.max(initial=0)) for found in lengths)
