"""Accuracies on the page and in the terminal: percentages from counts, intervals, McNemar between what answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kdlab.proportions import mcnemar
from kdlab.reporting.evaluations import read_evaluation
from kdlab.reporting.questions import evaluation_cells, right_of, run_cells
from kdlab.reporting.records import read_all
from kdlab.reporting.report import print_table, write_page
from kdlab.reporting.runs import read

NBSP = "\N{NO-BREAK SPACE}"
A, B = [True] * 12 + [False] * 8, [True] * 4 + [False] * 16


def counted(correct: int, count: int) -> dict[str, Any]:
    record = {"correct": correct, "count": count, "resolved": count - 1, "left_out": 2, "rules": "s1"}
    return {"examples": count + 2, "words": 5.0, "accuracy": record}


@pytest.fixture
def answering(write_run):
    """A run whose student got `right` of its questions."""

    def write(folder: str, right: list[bool], *, loss: str, seed: int = 0, prompt: str = "ask") -> Path:
        changes = {
            "overrides": [f"loss={loss}", f"seed={seed}"],
            "seeds.seed": seed,
            "metrics.before.generation": counted(0, len(right)),
            "metrics.after.generation": counted(sum(right), len(right)),
        }
        made: Path = write_run(folder, changes)
        lines = [
            {"row": row, "prompt": f"{prompt} {row}", "scores": {"after": {"accuracy": {"correct": correct}}}}
            for row, correct in enumerate([*right, None])
        ]
        (made / "generations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return made

    return write


@pytest.fixture
def evaluation(tmp_path: Path):
    def write(folder: str, right: list[list[bool]], *, counts: tuple[int, int] | None = None) -> Path:
        made = tmp_path / folder
        made.mkdir()
        correct, count = counts or (sum(map(sum, right)), sum(map(len, right)))
        record = {
            "schema": 1, "verb": "evaluate", "name": "gsm8k", "overrides": [f"model.path={folder}"],
            "config": {"rules": "s1", "writing": {"draws": len(right[0]) if len(right[0]) > 1 else 0}}, "model": {},
            "accuracy": {"correct": correct, "count": count, "unresolved": 3, "manual": 1}, "answers": "answers.jsonl",
        }  # fmt: skip
        (made / "evaluation.json").write_text(json.dumps(record))
        lines = [
            {"row": row, "question": f"ask {row}", "draw": draw, "correct": correct}
            for row, draws in enumerate(right)
            for draw, correct in enumerate(draws)
        ]
        (made / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return made

    return write


def test_a_percentage_comes_with_its_counts_and_interval(write_run, capsys, tmp_path: Path) -> None:
    changes = {"metrics.before.generation": counted(0, 1319), "metrics.after.generation": counted(161, 1319)}
    made = write_run("a", changes)
    print_table([made])
    told = capsys.readouterr().out
    assert f"12.2{NBSP}% (161/1,319; 10.5–14.1)" in told
    assert f"0.0{NBSP}% (0/1,319; 0.0–0.3)" in told
    assert "1 answers had no number that could be read" in told
    assert "2 whose reference has no number are left out" in told
    assert "Scores from 0 to 100" not in told
    assert "12.2\N{NO-BREAK SPACE}% (161/1,319; 10.5–14.1)" in write_page([made], tmp_path / "r.html").read_text()


def test_runs_of_one_seed_are_compared_question_by_question(answering, capsys) -> None:
    first, second = answering("a", A, loss="x"), answering("b", B, loss="y")
    other = answering("c", A, loss="y", seed=1)
    rows, note = run_cells([read(folder / "run.json") for folder in (first, second, other)])
    test = mcnemar(A, B)
    expected = ["loss=x seed=0 − loss=y seed=0", "20", "4", "8", "0", "+40.0", f"p = {test.p:.3f}"]
    assert rows == [expected], "another seed is no pair"
    assert test.p == pytest.approx(2 / 2**8)
    assert "McNemar's exact test" in note
    print_table([first, second])
    assert "question by question" in capsys.readouterr().out


def test_other_questions_and_counts_that_differ_are_not_compared(answering) -> None:
    runs = [read(answering(f, A, loss=f, prompt=f) / "run.json") for f in ("a", "b")]
    assert run_cells(runs) == ([], "")
    (runs[0].folder / "generations.jsonl").write_text("")
    rows, note = run_cells(runs)
    assert rows == []
    assert note == "a is left out: its answers are not there, or not those that were counted."


def test_evaluations_are_a_table_the_best_first(evaluation, tmp_path: Path, capsys) -> None:
    evaluation("low", [[right] for right in B])
    evaluation("high", [[right] for right in A])
    found = read_all([tmp_path])
    assert (found.runs, found.complaints) == ([], [])
    _, rows, pairs, _ = evaluation_cells(found.evaluations)
    assert rows[0] == ["model.path=high", f"60.0{NBSP}% (12/20; 38.7–78.1)", "3", "1", "s1"]
    assert [row[0] for row in rows] == ["model.path=high", "model.path=low"]
    assert pairs == [["model.path=high − model.path=low", "20", "4", "8", "0", "+40.0", "p = 0.008"]]
    print_table([tmp_path])
    assert "2 evaluations" in capsys.readouterr().out
    page = write_page([tmp_path], tmp_path / "r.html").read_text()
    assert "Evaluations" in page
    assert "p = 0.008" in page


def test_models_that_decide_have_columns_of_their_own(evaluation) -> None:
    decided = evaluation("decided", [[right] for right in A])
    record = json.loads((decided / "evaluation.json").read_text())
    latency = {"p50_ms": 21.5}
    record |= {"classification": {"macro_f1": 0.21, "ece": 0.194, "latency": latency}, "regression": None}
    (decided / "evaluation.json").write_text(json.dumps(record))
    one = read_evaluation(decided / "evaluation.json")
    head, (row,), _, _ = evaluation_cells([one])
    told = dict(zip(head, row, strict=True))
    assert "rules" not in told, "nothing was judged by rules"
    assert told["macro-F1"] == f"21.0{NBSP}%"
    assert (told["ECE"], told["rmse"], told["p50 (ms)"]) == (f"19.4{NBSP}%", "–", "21.50")
    head, rows, _, _ = evaluation_cells([one, read_evaluation(evaluation("asked", [[True]]) / "evaluation.json")])
    both = [dict(zip(head, row, strict=True)) for row in rows]
    assert [found["rules"] for found in both] == ["s1", "–"]
    assert [found["macro-F1"] for found in both] == ["–", f"21.0{NBSP}%"]


def test_draws_of_one_question_are_not_independent(evaluation) -> None:
    one = read_evaluation(evaluation("a", [[right] * 4 for right in A]) / "evaluation.json")
    alone = read_evaluation(evaluation("b", [[right] for right in A]) / "evaluation.json")
    assert "(48/80 over 20 questions; 36." in one.told
    assert "(12/20; 38." in alone.told, "four times the draws, but not four times the questions"
    _, _, ((_, _, both, _, _, difference, _),), note = evaluation_cells([one, alone])
    assert (both, difference[:4]) == ("–", "+0.0")
    assert "t-test over questions" in note


def test_counts_that_disagree_are_refused(evaluation) -> None:
    folder = evaluation("a", [[right] for right in A], counts=(13, 20))
    with pytest.raises(ValueError, match=r"12 right of 20, but evaluation\.json says 13 of 20") as caught:
        read_evaluation(folder / "evaluation.json")
    assert "\n" not in str(caught.value)


def test_an_unfinished_evaluation_is_named(evaluation, tmp_path: Path) -> None:
    evaluation("a", [[True]])
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "evaluation.json").write_text('{"schema": 1, "verb": "evaluate", "name": "x"}')
    found = read_all([tmp_path])
    assert len(found.evaluations) == 1
    assert "not finished" in found.complaints[0]


def test_without_the_answers_there_are_counts_alone(evaluation) -> None:
    folder = evaluation("a", [[True, False]] * 5)
    (folder / "answers.jsonl").unlink()
    found = read_evaluation(folder / "evaluation.json")
    assert found.told == f"50.0{NBSP}% (5/10)"
    assert "1 have no answers beside them" in evaluation_cells([found])[3]


def test_an_answer_may_hold_any_line_separator(evaluation, answering) -> None:
    made, run = evaluation("a", [[True], [False]]), answering("run", A, loss="hard")
    for file in (made / "answers.jsonl", run / "generations.jsonl"):
        lines = [json.loads(line) | {"text": "one\u2028two\x85three"} for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    assert read_evaluation(made / "evaluation.json").right is not None
    assert right_of(read(run / "run.json")) is not None
