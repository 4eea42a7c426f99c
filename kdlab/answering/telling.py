"""What is printed of a job that let a model write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdlab.answering.answers_file import Answer, AnswersFile
from kdlab.durable import read_json
from kdlab.proportions import Accuracy, over_questions
from kdlab.text.final_numbers import UNRESOLVED


def table(content: dict[str, Any], answers: Sequence[Answer]) -> str:
    """Accuracy with count, percentage and 95 % interval, and the same counts by rule."""
    lines = [_accuracy("accuracy", content, answers)]
    for rule, counts in content["by_rule"].items():
        how = rule if rule == UNRESOLVED else f"by {rule}"
        lines.append((f"  {how}", *_counts(Accuracy(counts["correct"], counts["count"])), ""))
    return _aligned(lines)


def together(folders: Sequence[Path]) -> str:
    """The accuracy of several jobs, one a line, each named by the options that not all of them have."""
    records = [read_json(folder / "evaluation.json") or {} for folder in folders]
    shared = set.intersection(*(set(content["overrides"]) for content in records))
    lines = []
    for folder, content in zip(folders, records, strict=True):
        own = " ".join(option for option in content["overrides"] if option not in shared)
        answers = AnswersFile(folder, name=content["answers"]).read()
        lines.append(_accuracy(own or folder.name, content, answers))
    return _aligned(lines)


def _accuracy(name: str, content: dict[str, Any], answers: Sequence[Answer]) -> tuple[str, ...]:
    found = Accuracy(content["accuracy"]["correct"], content["accuracy"]["count"])
    low, high = interval(answers)
    return name, *_counts(found), f"{low:.1%} to {high:.1%}"


def _aligned(lines: Sequence[tuple[str, ...]]) -> str:
    lines = [("", "correct", "of", "share", "95 % interval"), *lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    told = []
    for name, *cells in lines:
        right = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        told.append("  ".join([name.ljust(widths[0]), *right]).rstrip())
    return "\n".join(told)


def interval(answers: Sequence[Answer]) -> tuple[float, float]:
    """The 95 % interval of the accuracy: Wilson's for one answer a question, over the questions for several draws."""
    by_row: dict[int, list[bool]] = {}
    for answer in answers:
        if answer["correct"] is not None:
            by_row.setdefault(answer["row"], []).append(answer["correct"])
    if all(len(marks) == 1 for marks in by_row.values()):
        return Accuracy(sum(marks[0] for marks in by_row.values()), len(by_row)).interval()
    return over_questions([sum(marks) / len(marks) for marks in by_row.values()])[1]


def limit_line(content: dict[str, Any]) -> str:
    """How many texts did not end by themselves, and what was written at which speed."""
    count, seconds = content["answer_count"], content["seconds"]["write"]
    limit = content["config"]["writing"]["max_new_tokens"]
    speed = f", {content['tokens']['written'] / seconds:,.0f} tokens/s" if seconds else ""
    return (
        f"{content['limit_reached']:,} of {count:,} texts reached writing.max_new_tokens={limit}; "
        f"{content['tokens']['written']:,} tokens written{speed}"
    )


def _counts(found: Accuracy) -> tuple[str, str, str]:
    return f"{found.correct:,}", f"{found.count:,}", f"{found.share:.1%}"
