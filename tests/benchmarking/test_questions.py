from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from bench_files import questions, write_lines

from kdlab.benchmarking.questions import Bench, read_bench


def test_only_three_categories_are_judged_by_a_reference(bench: Bench) -> None:
    assert [question.id for question in bench.questions] == [81, 82, 83, 84, 85]
    found = {question.id: question.reference for question in bench.questions if question.reference}
    assert found == {82: ("truth 82", "second truth 82"), 85: ("truth 85", "second truth 85")}
    assert len(bench.prompts) == 8


@pytest.mark.parametrize(
    ("count", "chosen"), [(1, [81]), (2, [81, 82]), (3, [81, 82, 84]), (4, [81, 82, 83, 84]), (9, [81, 82, 83, 84, 85])]
)
def test_some_questions_are_spread_over_the_categories(folder: Path, count: int, chosen: list[int]) -> None:
    found = read_bench(str(folder), modes=["single"], count=count)
    assert [question.id for question in found.questions] == chosen


def test_line_separators_inside_a_text_end_no_line(folder: Path) -> None:
    told = questions()
    told[0]["turns"][0] = "two\u2028lines\x85here"
    write_lines(folder / "question.jsonl", told)
    found = read_bench(str(folder), modes=["single"], count=None)
    assert found.questions[0].turns[0] == "two\u2028lines\x85here"


def test_prompts_may_be_a_folder_above(folder: Path) -> None:
    (folder / "judge_prompts.jsonl").rename(folder.parent / "judge_prompts.jsonl")
    assert read_bench(str(folder), modes=["pairwise"], count=None).questions


def _without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def _question(**changed: object) -> Callable[[Path], object]:
    return lambda folder: write_lines(folder / "question.jsonl", [*questions(), questions()[0] | changed])


def _torn(folder: Path) -> None:
    file = folder / "question.jsonl"
    file.write_text(file.read_text()[:-5])


def _fewer_prompts(folder: Path) -> None:
    file = folder / "judge_prompts.jsonl"
    kept = [line for line in file.read_text().splitlines() if json.loads(line)["name"] != "single-v1-multi-turn"]
    file.write_text("\n".join(kept))


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (_without("question.jsonl"), FileNotFoundError, "has no question.jsonl; .*FastChat's repository"),
        (_without("judge_prompts.jsonl"), FileNotFoundError, "has no judge_prompts.jsonl"),
        (_without("reference_answer/gpt-4.jsonl"), FileNotFoundError, r"has no reference_answer/\*.jsonl"),
        (_question(question_id=99, turns=["one"]), ValueError, "line 6: no question of 2 turns"),
        (_question(question_id=99, category="coding"), ValueError, r"question 99 \(coding\) is judged by a reference"),
        (_question(), ValueError, "two questions of one question_id"),
        (_torn, ValueError, "question.jsonl, line 5: is not JSON"),
        (_fewer_prompts, ValueError, "has no prompt single-v1-multi-turn"),
    ],
)
def test_what_is_wrong_with_the_files_is_said(
    folder: Path, spoil: Callable[[Path], object], error: type[Exception], said: str
) -> None:
    spoil(folder)
    with pytest.raises(error) as caught:
        read_bench(str(folder), modes=["single"], count=None)
    assert re.search(said, str(caught.value))
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"benchmark.mt_bench.path=nowhere: no such folder"):
        read_bench("nowhere", modes=["single"], count=None)
