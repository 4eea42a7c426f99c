"""The dataset of a run, built as the run builds it: its verdict, and one example with what is supervised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdlab.data.dataset import build
from kdlab.preflight.examples import pieces, span_pieces
from kdlab.preflight.findings import Section, plain
from kdlab.preflight.sketch import Sketches
from kdlab.preflight.tokenizers import say_ends
from kdlab.preflight.workload import Workload, workload

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

    student, teacher = models.student, models.teacher
    cross = teacher is not None and config.loss.pairing == "cross"
    data = build(config.dataset, student.side(), teacher.side() if teacher is not None and cross else None)
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
    ends = say_ends(section, models, work, chat=data.verdict.format != PLAIN)
    first = work.batches[0]
    for name, shown in pieces(first, tokenizer).items():
        section.show(f"an example as the student reads it: its {name}", shown)
    spans = span_pieces(first, tokenizer, teacher.tokenizer if teacher is not None else None)
    if spans is not None:
        assert first.teacher is not None
        assert teacher is not None
        for name, shown in pieces(first.teacher, teacher.tokenizer).items():
            section.show(f"the same as the teacher reads it: its {name}", shown)
        for whose, texts in zip(("student", "teacher"), spans, strict=True):
            cut = "|".join(texts[:SPANS])
            section.say("note", f"spans of the {whose} (| between spans, · between tokens): {cut!r}")
    example = {name: plain(shown) for name, shown in pieces(first, tokenizer).items()}
    return work, {"verdict": data.verdict.as_dict(), "example": example, "ends": ends}
