"""What a judge of MT-Bench is asked: one job a judgement, in the words of the benchmark's own prompts. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kdlab.benchmarking.lines import key_of
from kdlab.benchmarking.questions import NAMES, PROMPTS, Bench, Question

Turns = tuple[str, str]
"""The answers of one model to both turns of a question."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A judgement that is wanted. `stage` is whose answer it is of ("before"), or "before/after" and "after/before"
    for two: the first stands as A. `turn` is 1 or 2."""

    key: str
    mode: str
    stage: str
    question: Question
    turn: int
    system: str
    user: str


def single_jobs(bench: Bench, answers: dict[int, Turns], *, stage: str, judge: str) -> list[Job]:
    """Both turns of every question, each judged by itself; `judge` names who judges."""
    return [
        _job(bench, question, turn, _one(answers[question.id], turn), mode="single", stage=stage, judge=judge)
        for question in bench.questions
        for turn in (1, 2)
    ]


def pair_jobs(bench: Bench, first: dict[int, Turns], second: dict[int, Turns], *, stage: str, judge: str) -> list[Job]:
    """Both turns of every question, `first` as A against `second` as B."""
    return [
        _job(
            bench,
            question,
            turn,
            _two(first[question.id], second[question.id], turn),
            mode="pairwise",
            stage=stage,
            judge=judge,
        )
        for question in bench.questions
        for turn in (1, 2)
    ]


def _job(
    bench: Bench, question: Question, turn: int, answers: dict[str, str], *, mode: str, stage: str, judge: str
) -> Job:
    name = NAMES[mode][2 * (turn - 1) + (question.reference is not None)]
    prompt = bench.prompts[name]
    fields = answers | _asked(question, turn)
    try:
        user = prompt.template.format(**fields)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"{PROMPTS}: the prompt {name} wants {error}, and what is there is {', '.join(fields)}"
        ) from error
    key = key_of(judge, mode, stage, question.id, turn, prompt.system, user)
    return Job(key=key, mode=mode, stage=stage, question=question, turn=turn, system=prompt.system, user=user)


def _asked(question: Question, turn: int) -> dict[str, str]:
    """The question, up to `turn`, and the reference answers, by their names in the templates."""
    asked = {"question": question.turns[0]} if turn == 1 else _numbered("question", question.turns)
    return asked if question.reference is None else asked | _numbered("ref_answer", question.reference[:turn])


def _one(answer: Turns, turn: int) -> dict[str, str]:
    return {"answer": answer[0]} if turn == 1 else _numbered("answer", answer)


def _two(a: Turns, b: Turns, turn: int) -> dict[str, str]:
    if turn == 1:
        return {"answer_a": a[0], "answer_b": b[0]}
    return _numbered("answer_a", a) | _numbered("answer_b", b)


def _numbered(name: str, texts: Sequence[str]) -> dict[str, str]:
    return {f"{name}_{number}": text for number, text in enumerate(texts, start=1)}
