"""Does one answer more questions than another? Two runs, or two evaluations, over the same questions."""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from dataclasses import dataclass

from kdlab.proportions import Accuracy, mcnemar
from kdlab.reporting.accuracy import accuracy_of
from kdlab.reporting.arms import shown_pairs
from kdlab.reporting.comparison import labels
from kdlab.reporting.evaluations import Evaluation, Right, lines_of
from kdlab.reporting.intervals import paired
from kdlab.reporting.numbers import NONE, chance, number, percent
from kdlab.reporting.runs import Run

HEAD = ["first − second", "questions", "both right", "only the first", "only the second", "difference (points)", "p"]
TEST = (
    "Over the questions that both answered, row by row and word by word: McNemar's exact test, two-sided, of those "
    "that one alone got right."
)
DECIDED = (
    ("macro-F1", ("macro_f1",), percent),
    ("ECE", ("ece",), percent),
    ("rmse", ("rmse",), number),
    ("p50 (ms)", ("latency", "p50_ms"), number),
)
"""Columns of models that decide: title, where the number lies, how it is written."""
DRAWS = "Where there are several draws a question: the paired t-test over questions of the share that was right."


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Something that answered questions, and which it got right."""

    label: str
    right: Right


def run_cells(runs: Sequence[Run]) -> tuple[list[list[str]], str]:
    """Rows under `HEAD` for each two finished runs of one seed, after training, and what to know about them."""
    finished = [run for run in runs if run.finished and accuracy_of(run, "after") is not None]
    rows: list[list[str]] = []
    notes, hidden = [], 0
    seeds: dict[str, list[Answered]] = {}
    for run, label in zip(finished, labels(finished), strict=True) if finished else ():
        right = right_of(run)
        if right is None:
            notes.append(f"{run.folder.name} is left out: its answers are not there, or not those that were counted.")
        else:
            seeds.setdefault(run.text("seeds", "seed"), []).append(Answered(label=label, right=right))
    for answered in seeds.values():
        found, more = pair_rows(answered)
        rows, hidden = rows + found, hidden + more
    return rows, " ".join([_note(rows, hidden), *notes]).strip()


def evaluation_cells(evaluations: Sequence[Evaluation]) -> tuple[list[str], list[list[str]], list[list[str]], str]:
    """Head and rows of the table of evaluations, rows under `HEAD` for each two of them, and what to know about these.

    The best is first."""
    ordered = sorted(evaluations, key=lambda one: -one.accuracy.share if one.accuracy.count else 1.0)
    names = labels([one.record for one in ordered])
    kinds = {one.decides for one in ordered}
    head = ["evaluation", "accuracy (95 % interval)"]
    head += [title for title, _, _ in DECIDED] if True in kinds else []
    head += ["unresolved", "graded by hand", "rules"] if False in kinds else []
    rows = [[name, *_cells(one, kinds)] for name, one in zip(names, ordered, strict=True)]
    answered = [
        Answered(label=name, right=one.right) for name, one in zip(names, ordered, strict=True) if one.right is not None
    ]
    pairs, hidden = pair_rows(answered)
    note = _note(pairs, hidden)
    if len(answered) < len(ordered):
        note += f" {len(ordered) - len(answered)} have no answers beside them and are not compared."
    return head, rows, pairs, note.strip()


def _cells(one: Evaluation, kinds: Set[bool]) -> list[str]:
    """What is told of an evaluation, in a table of these kinds."""
    cells = [one.told if one.accuracy.count else NONE]
    if True in kinds:
        cells += [show(one.decided(*keys)) for _, keys, show in DECIDED]
    if False in kinds:
        rules = one.record.text("config", "rules") or NONE
        cells += [NONE] * 3 if one.decides else [number(one.unresolved), number(one.manual), rules]
    return cells


def pair_rows(answered: Sequence[Answered]) -> tuple[list[list[str]], int]:
    """A row for each two that have a question in common, and how many further pairs are not shown."""
    shown, hidden = shown_pairs(answered)
    rows = [_row(first, second) for first, second in shown]
    return [row for row in rows if row is not None], hidden


def right_of(run: Run) -> Right | None:
    """What the student answered after training, from generations.jsonl; None where it is not there or does not come to
    what run.json counts."""
    file = run.folder / (run.text("files", "generations") or "generations.jsonl")
    if not file.is_file():
        return None
    found: Right = {}
    try:
        for line in lines_of(file):
            answer = json.loads(line)
            correct = answer["scores"]["after"]["accuracy"]["correct"]
            if correct is not None:
                found.setdefault((answer["row"], str(answer["prompt"])), []).append(correct is True)
    except (UnicodeDecodeError, json.JSONDecodeError, TypeError, KeyError):
        return None
    counted = Accuracy(sum(map(sum, found.values())), sum(map(len, found.values())))
    return found if counted == accuracy_of(run, "after") else None


def _row(first: Answered, second: Answered) -> list[str] | None:
    common = [question for question in first.right if question in second.right]
    if not common:
        return None
    a, b = ([one.right[question] for question in common] for one in (first, second))
    name = f"{first.label} − {second.label}"
    if all(len(draws) == 1 for draws in (*a, *b)):
        test = mcnemar([draws[0] for draws in a], [draws[0] for draws in b])
        counts = [number(count) for count in (test.count, test.both, test.first, test.second)]
        return [name, *counts, f"{100 * test.difference:+.1f}", chance(test.p)]
    shares = [[sum(draws) / len(draws) for draws in side] for side in (a, b)]
    over = paired(*shares)
    width = "" if over.half_width is None else f" ± {100 * over.half_width:.1f}"
    return [name, number(over.n), NONE, NONE, NONE, f"{100 * over.difference:+.1f}{width}", chance(over.p)]


def _note(rows: Sequence[Sequence[str]], hidden: int) -> str:
    if not rows:
        return ""
    note = TEST + (f" {DRAWS}" if any(row[2] == NONE for row in rows) else "")
    if len(rows) > 1:
        note += f" The p are not corrected for {len(rows)} comparisons."
    if hidden:
        note += f" {hidden} further pairs are not shown: compare fewer at a time."
    return note
