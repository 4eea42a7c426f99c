"""Written answers: teacher, student before and student after answer the same held-out prompts, judged by what the
examples say themselves (`benchmark.generation`).

Which examples these are depends on the held-out split alone, not on the training seed: runs over seeds and settings
answer the same prompts. Every answer and its scores are kept in generations.jsonl, one line an example.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdlab.durable import write_atomically
from kdlab.metrics.accuracy import judge as judge_numbers
from kdlab.metrics.generation import score
from kdlab.models.progress import say
from kdlab.text.final_numbers import gold
from kdlab.training.generate import write_answers

if TYPE_CHECKING:
    import torch

    from kdlab.data.labelled.store import LabelledStore
    from kdlab.data.store import Example, TokenStore
    from kdlab.training.recipe import GenerationConfig

GENERATIONS = "generations.jsonl"

Answers = list[dict[str, Any]]
"""One dict an example: `example` (its number in the held-out split), `row`, `prompt`, `reference`, what each of
"teacher", "before" and "after" wrote (None where there is no teacher), and `scores` of each by metric, of accuracy the
`value` that it comes to, the `rule` that found it and whether it is `correct`."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A prompt as the student's token ids and as the teacher's (the same ones where they share a tokenizer and a
    prompt), and the reference text. `example` counts in the held-out split, `row` in the source. A prompt of the
    teacher's own may hold the answer: what it writes was then told to it (`data.gives_answer` in run.json)."""

    example: int
    row: int | None
    prompt: list[int]
    teacher_prompt: list[int]
    reference: str


def questions(store: TokenStore | LabelledStore, tokenizer: Any, *, examples: int | None) -> list[Question]:
    """The first `examples` held-out examples (None: all) that have both a prompt and an answer.

    The prompt is what an encoder reads, or what comes before the first supervised tokens; the reference is what these
    say, as far as the example was not cut, without special tokens. Of a conversation it is the first turn. Raises
    ValueError where no example has both.
    """
    found: list[Question] = []
    for i in range(len(store)):
        if examples is not None and len(found) == examples:
            break
        example = store[i]
        prompt, answer = _parts(example)
        theirs = prompt if example.teacher is None else _parts(example.teacher)[0]
        reference = str(tokenizer.decode(answer, skip_special_tokens=True)).strip()
        if prompt and theirs and reference:
            found.append(
                Question(example=i, row=example.row, prompt=prompt, teacher_prompt=theirs, reference=reference)
            )
    if not found:
        raise ValueError(
            "benchmark.generation: no held-out example has a prompt and an answer to judge by (plain text has none, "
            "nor has dataset.supervise=all); use other data, or benchmark.generation=null"
        )
    return found


def _parts(example: Example) -> tuple[list[int], list[int]]:
    """Prompt and first answer as token ids; no prompt where the example is supervised from its beginning."""
    ids = [int(token) for token in example.input_ids]
    targets = np.flatnonzero(example.supervised)
    first = int(targets[0]) if len(targets) else len(ids)
    gaps = np.flatnonzero(~example.supervised[first:])
    answer = ids[first : first + int(gaps[0]) if len(gaps) else len(ids)]
    if example.source_ids is not None:
        return [int(token) for token in example.source_ids], answer
    return (ids[:first], answer) if first > 1 else ([], answer)


def write(
    config: GenerationConfig, model: Any, tokenizer: Any, prompts: Sequence[list[int]], *, device: torch.device
) -> list[str]:
    """What `model` answers to each prompt, greedily or with beams, a batch at a time."""
    written = write_answers(
        model,
        tokenizer,
        prompts,
        max_new_tokens=config.max_new_tokens,
        device=device,
        batch_size=config.batch_size,
        beams=config.beams,
    )
    return [text.strip() for text in written]


def begin(asked: Sequence[Question], tokenizer: Any, *, metrics: Sequence[str] = ()) -> Answers:
    """The answers before anyone has written one. Where accuracy is among `metrics`, how many references have no number
    is said; raises ValueError where none has one."""
    if "accuracy" in metrics:
        _check_numbers([question.reference for question in asked])
    texts = tokenizer.batch_decode([question.prompt for question in asked], skip_special_tokens=True)
    return [
        {
            "example": question.example,
            "row": question.row,
            "prompt": str(text),
            "reference": question.reference,
            "teacher": None,
            "before": None,
            "after": None,
            "scores": {},
        }
        for question, text in zip(asked, texts, strict=True)
    ]


def _check_numbers(references: Sequence[str]) -> None:
    lacking = sum(gold(reference) is None for reference in references)
    if lacking == len(references):
        raise ValueError(
            "benchmark.generation.metrics=[accuracy]: no held-out reference has a number (behind ####, in \\boxed{}, "
            "or alone); use benchmark.generation.metrics=[rouge], or raise dataset.max_length where they are cut"
        )
    if lacking:
        say(f"accuracy: {lacking} of {len(references)} held-out references have no number and are left out")


def judge(config: GenerationConfig, answers: Answers, who: str, written: Sequence[str]) -> dict[str, Any]:
    """Enter what `who` wrote and its scores into `answers`. Returns its metrics for run.json: `examples`, what
    `metrics.generation.score` gives over all of them, from 0 to 100, and the counts of `accuracy`."""
    references = [answer["reference"] for answer in answers]
    scores = score(written, references, metrics=[metric for metric in config.metrics if metric != "accuracy"])
    for answer, text, found in zip(answers, written, scores.examples, strict=True):
        answer[who] = text
        answer["scores"][who] = dict[str, Any](found)
    metrics: dict[str, Any] = {"examples": len(answers), **scores.corpus}
    if "accuracy" in config.metrics:
        numbers = judge_numbers(
            written, references, rules=config.rules, questions=[answer["prompt"] for answer in answers]
        )
        metrics["accuracy"] = numbers.record()
        for answer, of_answer in zip(answers, numbers.examples, strict=True):
            answer["scores"][who]["accuracy"] = of_answer
    return metrics


def keep(answers: Answers, folder: Path) -> None:
    """Write generations.jsonl, whole or not at all."""
    text = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
    write_atomically(folder / GENERATIONS, lambda file: file.write(text.encode()))
