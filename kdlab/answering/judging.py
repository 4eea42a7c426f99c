"""What an answer comes to, and whether that is what the reference comes to: by rules, or by a person's grade.

Answers in which no rule finds a number go to unresolved.csv, one a row, for a person who sees neither the reference nor
the order in which they were written. In the column `grade` goes the number that the answer comes to, or "none".
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from kdlab.answering.answers_file import Answer, Key, key
from kdlab.durable import write_atomically
from kdlab.text.final_numbers import UNRESOLVED, equal, extract, gold, shown

UNRESOLVED_FILE = "unresolved.csv"
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a formula begins with."""
COLUMNS = ("row", "draw", "question", "answer", "grade")
MANUAL = "manual"
"""The rule of an answer that a person graded."""
NONE = "none"
"""The grade of an answer that comes to no number."""


def judged(answer: Answer, *, rules: str, question: str) -> Answer:
    """The answer with `value`, `rule` and `correct` as the rules have it. `question` is what was asked, as worded."""
    found = extract(answer["text"], rules=rules, question=question)
    reference = gold(answer["reference"])
    correct = None if reference is None else equal(found.value, reference)
    return answer | {"value": shown(found.value), "rule": found.rule, "correct": correct}


def is_judged(answer: Answer) -> bool:
    """Whether the answer counts: its reference has a number."""
    return answer["correct"] is not None


def is_unresolved(answer: Answer) -> bool:
    """Whether it counts, and no rule found a number in it, nor has a person graded it."""
    return is_judged(answer) and answer["rule"] == UNRESOLVED


def write_unresolved(folder: Path, answers: Sequence[Answer], *, seed: int) -> int:
    """Write unresolved.csv, shuffled by `seed`. Returns how many answers it holds; with none there is no file."""
    open_ones = [answer for answer in answers if is_unresolved(answer)]
    random.Random(seed).shuffle(open_ones)
    if not open_ones:
        return 0
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for answer in open_ones:
        table.writerow([answer["row"], answer["draw"], as_text(answer["question"]), as_text(answer["text"]), ""])
    write_atomically(folder / UNRESOLVED_FILE, lambda file: file.write(text.getvalue().encode()))
    return len(open_ones)


def graded(answers: Sequence[Answer], path: str) -> list[Answer]:
    """The answers with the grades of a filled-in unresolved.csv; its empty grades leave an answer unresolved.

    Grades of an earlier file are forgotten. Raises FileNotFoundError or ValueError, with the line, for a file that is
    not there, lacks a column, names an answer that is not unresolved or names it twice, shows another text, or has a
    grade that is no number.
    """
    again = [_ungraded(answer) for answer in answers]
    open_ones = {key(answer): answer for answer in again if is_unresolved(answer)}
    grades: dict[Key, Answer] = {}
    for line, cells in _rows(path):
        where = f"manual={path}: line {line}"
        known = _key(cells, where)
        if known not in open_ones:
            raise ValueError(f"{where}: row {known[0]}, draw {known[1]} is no unresolved answer of this job")
        if known in grades:
            raise ValueError(f"{where}: row {known[0]}, draw {known[1]} is there twice; keep one line of it")
        answer = open_ones[known]
        if _words(cells["question"]) != _words(answer["question"]) or _words(cells["answer"]) != _words(answer["text"]):
            raise ValueError(
                f"{where}: question or answer is not that of row {known[0]}, draw {known[1]}: another job's?"
            )
        grades[known] = _graded(answer, cells["grade"], where)
    return [grades.get(key(answer), answer) for answer in again]


def _ungraded(answer: Answer) -> Answer:
    """As it was before a person graded it, if one has."""
    if answer["rule"] != MANUAL:
        return answer
    return answer | {"value": None, "rule": UNRESOLVED, "correct": False}


def _graded(answer: Answer, grade: str, where: str) -> Answer:
    read = grade.strip()
    if not read:
        return answer
    value = None if read.lower() == NONE else gold(read)
    if value is None and read.lower() != NONE:
        raise ValueError(f"{where}: grade {read!r} is not one number; write the number that is read, or {NONE}")
    return answer | {"value": shown(value), "rule": MANUAL, "correct": equal(value, gold(answer["reference"]))}


def _rows(path: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The line on which each row begins, and its cells by column."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"manual={path}: no such file")
    try:
        text = file.read_text(encoding="utf-8-sig")  # spreadsheets write a mark first
    except UnicodeDecodeError as error:
        raise ValueError(f"manual={path}: not UTF-8; save it as CSV in UTF-8") from error
    # newline="": a line break in an answer stays as it is
    table, begins = csv.reader(io.StringIO(text, newline=""), strict=True), 1
    columns: list[str] | None = None
    try:
        for cells in table:
            line, begins = begins, table.line_num + 1
            if columns is None:
                columns = cells
                lacking = [column for column in COLUMNS if column not in columns]
                if lacking:
                    raise ValueError(f"manual={path}: line 1: no column {lacking[0]}; it needs {', '.join(COLUMNS)}")
            elif cells:
                if len(cells) != len(columns):
                    raise ValueError(f"manual={path}: line {line}: {len(cells)} cells, not {len(columns)}")
                yield line, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        raise ValueError(f"manual={path}: line {begins}: not CSV ({error})") from error
    if columns is None:
        raise ValueError(f"manual={path}: is empty")


def _key(cells: dict[str, str], where: str) -> Key:
    try:
        return int(cells["row"]), int(cells["draw"])
    except ValueError as error:
        raise ValueError(f"{where}: row and draw must be whole numbers, as in {UNRESOLVED_FILE}") from error


def as_text(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: one that begins like one gets the mark of a text in front."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def _words(text: str) -> list[str]:
    """What stays of a text that went through a spreadsheet."""
    return text.removeprefix("'").split()
