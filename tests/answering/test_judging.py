"""Rules first, then a person who sees no reference: unresolved.csv goes out and comes back."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from kdlab.answering.answers_file import Answer
from kdlab.answering.judging import as_text, graded, is_unresolved, judged, write_unresolved

TEXTS = ["It is 4.", 'I do,\r\nnot "know"; sorry', "what?", "\\boxed{18}", "hm", "=so, so", "it is 3", ""]


def answers() -> list[Answer]:
    rows = [
        {"row": row, "draw": 0, "question": f"Question {row}:\nhow many?", "reference": "#### 18", "text": text}
        for row, text in enumerate(TEXTS)
    ]
    rows.append(rows[4] | {"row": 8, "reference": "eighteen"})
    return [judged(row, rules="boxed_last", question=row["question"]) for row in rows]


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    assert write_unresolved(tmp_path, answers(), seed=0) == 5
    return tmp_path / "unresolved.csv"


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def fill(sheet: Path, grades: dict[int, str], change: Callable[[dict[str, str]], None] = lambda row: None) -> str:
    rows, filled = read(sheet), sheet.with_name("filled.csv")
    with filled.open("w", newline="", encoding="utf-8-sig") as lines:  # as a spreadsheet saves it
        table = csv.DictWriter(lines, list(rows[0]), lineterminator="\r\n")
        table.writeheader()
        for row in rows:
            row["grade"] = grades.get(int(row["row"]), "")
            change(row)
            table.writerow(row)
    return str(filled)


def test_what_the_rules_find() -> None:
    found = answers()
    assert [(a["value"], a["rule"], a["correct"]) for a in found[:4:3]] == [
        ("4", "last_number", False),
        ("18", "boxed", True),
    ]
    assert [a["row"] for a in found if is_unresolved(a)] == [1, 2, 4, 5, 7]
    assert found[8]["correct"] is None, "its reference has no number: it is not counted"


def test_what_a_person_sees_is_blind(sheet: Path) -> None:
    rows = read(sheet)
    assert list(rows[0]) == ["row", "draw", "question", "answer", "grade"]
    assert "18" not in sheet.read_text()
    assert {row["grade"] for row in rows} == {""}
    assert [int(row["row"]) for row in rows] != sorted(int(row["row"]) for row in rows)
    assert {row["answer"] for row in rows} == {as_text(TEXTS[i]) for i in (1, 2, 4, 5, 7)}
    before = sheet.read_bytes()
    write_unresolved(sheet.parent, answers(), seed=0)
    assert sheet.read_bytes() == before
    write_unresolved(sheet.parent, answers(), seed=2)
    assert sheet.read_bytes() != before


def test_grades_come_back(sheet: Path) -> None:
    found = graded(answers(), fill(sheet, {1: "18.0", 2: " None ", 4: "$1,234.50"}))
    assert [(a["value"], a["rule"], a["correct"]) for a in (found[1], found[2], found[4])] == [
        ("18", "manual", True),
        (None, "manual", False),
        ("1234.5", "manual", False),
    ]
    assert [a["row"] for a in found if is_unresolved(a)] == [5, 7]
    assert found[0] == answers()[0]


def test_a_second_file_takes_the_place_of_the_first(sheet: Path) -> None:
    once = graded(answers(), fill(sheet, {1: "18", 2: "5"}))
    again = graded(once, fill(sheet, {1: "17"}))
    assert (again[1]["value"], again[1]["correct"]) == ("17", False)
    assert again[2] == answers()[2]


def test_nothing_to_grade_makes_no_file(tmp_path: Path) -> None:
    assert write_unresolved(tmp_path, answers()[:1], seed=0) == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("column", "value", "part"),
    [
        ("row", "0", "row 0, draw 0 is no unresolved answer of this job"),
        ("row", "99", "row 99, draw 0 is no unresolved answer"),
        ("row", "two", "row and draw must be whole numbers"),
        ("draw", "1", "row 2, draw 1 is no unresolved answer"),
        ("answer", "another", "question or answer is not that of row 2, draw 0"),
        ("question", "another", "question or answer is not that of row 2, draw 0"),
        ("grade", "many", "grade 'many' is not one number; write the number that is read, or none"),
        ("grade", "3 or 4", "grade '3 or 4' is not one number"),
    ],
)
def test_a_line_that_is_wrong_is_named(sheet: Path, column: str, value: str, part: str) -> None:
    def change(row: dict[str, str]) -> None:
        row[column] = value if row["row"] == "2" else row[column]

    path = fill(sheet, {2: "1"}, change)
    lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    record = next(i for i, row in enumerate(read(sheet)) if row["row"] == "2")
    line = 2 + sum(2 + ("\r" in row["answer"] or "\n" in row["answer"]) for row in read(sheet)[:record])
    assert lines[line - 1].startswith((f"{value},", "2,"))
    with pytest.raises(ValueError, match=rf"^manual=.*filled\.csv: line {line}: ") as refused:
        graded(answers(), path)
    assert part in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_line_that_is_there_twice(sheet: Path) -> None:
    path = Path(fill(sheet, {2: "1"}))
    path.write_text(path.read_text(encoding="utf-8") + '2,0,"Question 2: how many?",what?,7\n', encoding="utf-8")
    with pytest.raises(ValueError, match="row 2, draw 0 is there twice"):
        graded(answers(), str(path))


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "is empty"),
        (b"row,draw,question,answer\n", "line 1: no column grade"),
        (b"row,draw,question,answer,grade\n1,0,a\n", "line 2: 3 cells, not 5"),
        (b'row,draw,question,answer,grade\n1,0,"a', "line 2: not CSV"),
        ("row,draw,question,answer,grade\né".encode("latin-1"), "not UTF-8"),
    ],
)
def test_files_that_are_no_such_sheet(tmp_path: Path, content: bytes, part: str) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=part):
        graded(answers(), str(file))
    with pytest.raises(FileNotFoundError, match=r"manual=missing\.csv: no such file"):
        graded(answers(), "missing.csv")
