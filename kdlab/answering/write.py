"""Let a model write an answer to every question: longest prompts first, a batch at a time, from where a killed process
stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from kdlab.answering.answers_file import Answer, AnswersFile, Key
from kdlab.answering.drawing import Drawn
from kdlab.answering.progress import WritingBar
from kdlab.answering.questions import Question
from kdlab.training.generate import Written, write_batches
from kdlab.training.stopping import RunFailed

if TYPE_CHECKING:
    from kdlab.answering.recipe import AnswerConfig, WritingConfig


def plan(questions: Sequence[Question], writing: WritingConfig) -> list[list[tuple[int, int]]]:
    """Batches of (index of a question, draw): the longest prompts first, so that memory fails early, if at all.

    The same for the same questions and options: what is padded together decides the rounding of a model's numbers, so
    a job that goes on writes what an unbroken one does.
    """
    items = [(i, draw) for i in range(len(questions)) for draw in range(max(1, writing.draws))]
    items.sort(key=lambda item: (-len(questions[item[0]].prompt), *item))
    return [items[start : start + writing.batch_size] for start in range(0, len(items), writing.batch_size)]


def keys(questions: Sequence[Question], batches: Sequence[Sequence[tuple[int, int]]]) -> list[list[Key]]:
    """Row and draw of each answer of these batches."""
    return [[(questions[i].row, draw) for i, draw in batch] for batch in batches]


def write_missing(
    config: AnswerConfig,
    model: Any,
    tokenizer: Any,
    questions: Sequence[Question],
    file: AnswersFile,
    *,
    device: torch.device,
    judge: Callable[[Answer], Answer],
    after: Callable[[list[Answer]], None],
) -> None:
    """Write the answers that `file` does not have yet, each passed through `judge`. `after` is called with each batch
    that has become safe on the disk."""
    writing, batches = config.writing, plan(questions, config.writing)
    missing = file.resume(keys(questions, batches))
    rest = [batches[number] for number in missing]
    total, left = sum(map(len, batches)), sum(map(len, rest))
    written = write_batches(
        model,
        tokenizer,
        [question.prompt for question in questions],
        [[i for i, _ in batch] for batch in rest],
        max_new_tokens=writing.max_new_tokens,
        device=device,
        processors=lambda number: _processors(config, questions, rest[number]),
    )
    with WritingBar(total=total, done=total - left, shown=writing.progress) as bar:
        try:
            for batch, texts in zip(rest, written, strict=True):
                pairs = zip(batch, texts, strict=True)
                answers = [judge(_answer(questions[i], draw, text)) for (i, draw), text in pairs]
                file.append(answers)
                bar.advance(answers=len(batch), tokens=sum(text.tokens for text in texts))
                after(answers)
        except torch.OutOfMemoryError as error:
            raise RunFailed(
                f"writing.batch_size={writing.batch_size}: {device} has no memory for so many at a time; lower it"
            ) from error


def _processors(config: AnswerConfig, questions: Sequence[Question], batch: Sequence[tuple[int, int]]) -> list[Drawn]:
    """What draws the tokens of a batch; nothing where the most likely ones are taken."""
    writing = config.writing
    if writing.draws == 0:
        return []
    drawn_by = [(config.seed, questions[i].row, draw) for i, draw in batch]
    return [Drawn(drawn_by, length=writing.max_new_tokens, temperature=writing.temperature, top_p=writing.top_p)]


def _answer(question: Question, draw: int, written: Written) -> Answer:
    told = {} if question.system is None else {"system": question.system}
    return {
        "row": question.row,
        **told,
        "question": question.text,
        "reference": question.reference,
        "draw": draw,
        "text": written.text,
        "value": None,
        "rule": None,
        "correct": None,
        "prompt_tokens": written.prompt_tokens,
        "tokens": written.tokens,
        "stopped": written.stopped,
    }
