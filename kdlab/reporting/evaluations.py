"""Read what `kdlab evaluate` wrote: `evaluation.json` and the `answers.jsonl` beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdlab.proportions import Accuracy, over_questions
from kdlab.reporting.accuracy import told
from kdlab.reporting.numbers import number
from kdlab.reporting.runs import SCHEMA, Run

EVALUATION = "evaluation.json"
VERB = "evaluate"
KINDS = ("classification", "regression")

Right = dict[tuple[Any, str], list[bool]]
"""For each question, by row and wording: whether its answer was right, one for every draw."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One model's answers, judged. `record` is read as that of a run, for its name and options. `right` is None where
    the answers are not beside it."""

    record: Run
    accuracy: Accuracy
    unresolved: int
    manual: int
    right: Right | None

    @property
    def decides(self) -> bool:
        """Whether the model decides, rather than writes answers."""
        return any(self.record.value(kind) is not None for kind in KINDS)

    def decided(self, *keys: str) -> float | None:
        """What was measured of a model that decides; None where it was not."""
        found = (self.record.number(kind, *keys) for kind in KINDS)
        return next((value for value in found if value is not None), None)

    @property
    def several(self) -> bool:
        """Whether there is more than one draw a question."""
        return (self.record.number("config", "writing", "draws") or 0) > 1

    @property
    def told(self) -> str:
        """The accuracy with its interval. Draws of one question are not independent, so the interval is over questions;
        without the answers there is none for several draws."""
        if not self.several:
            return told(self.accuracy)
        if self.right is None:
            return told(self.accuracy).partition(";")[0] + ")"
        _, interval = over_questions([sum(draws) / len(draws) for draws in self.right.values()])
        return told(self.accuracy, interval, of=f" over {number(len(self.right))} questions")


def is_evaluation(file: Path) -> bool:
    """Whether a file, readable or not, is to be read as an evaluation."""
    if file.name == EVALUATION:
        return True
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError):
        return False
    return isinstance(record, dict) and record.get("verb") == VERB


def read_evaluation(file: Path) -> Evaluation:
    """Read one `evaluation.json`. Raises ValueError, in one line, where it is not one, is not finished, or counts other
    answers than lie beside it."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file}: not readable as JSON ({error})") from error
    if not isinstance(record, dict) or record.get("verb") != VERB or "name" not in record:
        raise ValueError(f"{file}: not an evaluation of kdlab")
    if record.get("schema") != SCHEMA:
        raise ValueError(f"{file}: schema {record.get('schema')}, but this kdlab reads schema {SCHEMA}")
    run = Run(folder=file.parent, record=record)
    correct, count = run.number("accuracy", "correct"), run.number("accuracy", "count")
    if correct is None or count is None:
        raise ValueError(f"{file}: not finished; run the same `kdlab evaluate` again, it goes on where it stopped")
    try:
        accuracy = Accuracy(int(correct), int(count))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    right = _right(file.parent / run.text("answers"), accuracy) if run.text("answers") else None
    unresolved, manual = (int(run.number("accuracy", name) or 0) for name in ("unresolved", "manual"))
    return Evaluation(record=run, accuracy=accuracy, unresolved=unresolved, manual=manual, right=right)


def lines_of(file: Path) -> list[str]:
    """The lines of a file of JSON lines. A text in one may hold signs that `str.splitlines` takes for line ends."""
    return file.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def _right(file: Path, accuracy: Accuracy) -> Right | None:
    """The answers that count, those whose reference has a number; None where the file is not there."""
    if not file.is_file():
        return None
    found: Right = {}
    for line, text in enumerate(lines_of(file), start=1):
        try:
            answer = json.loads(text)
            known, correct = (answer["row"], str(answer["question"])), answer["correct"]
        except (json.JSONDecodeError, TypeError, KeyError) as error:
            raise ValueError(f"{file}: line {line} cannot be read") from error
        if correct is not None:
            found.setdefault(known, []).append(correct is True)
    counted = Accuracy(sum(map(sum, found.values())), sum(map(len, found.values())))
    if counted != accuracy:
        raise ValueError(
            f"{file}: has {counted.correct} right of {counted.count}, but {EVALUATION} says {accuracy.correct} of "
            f"{accuracy.count}; run the same `kdlab evaluate` again"
        )
    return found
