"""The files of MT-Bench: questions, judge prompts and reference answers, as FastChat's llm_judge has them (Zheng et
al., 2023). Importable without torch.

bench = read_bench("llm_judge/data/mt_bench", modes=["single"], count=None)
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUESTIONS = "question.jsonl"
PROMPTS = "judge_prompts.jsonl"
REFERENCES = "reference_answer"
OPTION = "benchmark.mt_bench.path"
WHERE = (
    "they are in FastChat's repository: fastchat/llm_judge/data/mt_bench, and judge_prompts.jsonl in the folder above"
)
NEED_REFERENCE = ("math", "reasoning", "coding")
"""Categories whose answers are judged beside a reference answer."""
NAMES = {
    "single": ("single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn"),
    "pairwise": ("pair-v2", "pair-math-v1", "pair-v2-multi-turn", "pair-math-v1-multi-turn"),
}
"""The judge prompts of each mode: of the first turn, that with a reference, of the second turn, that with one."""
TURNS = 2


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked in both turns, and what the reference answers (None: it is judged without one)."""

    id: int
    category: str
    turns: tuple[str, str]
    reference: tuple[str, str] | None


@dataclass(frozen=True, kw_only=True)
class JudgePrompt:
    """What a judge is told: a system message, and the user's, which is filled in by `str.format`."""

    system: str
    template: str


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The questions in their order, and the judge prompts by name."""

    questions: list[Question]
    prompts: dict[str, JudgePrompt]


def read_bench(path: str, *, modes: Sequence[str], count: int | None) -> Bench:
    """Read the folder. `count` questions are taken in turn from each category (None: all), and stay in their order.

    Raises FileNotFoundError for a file that is not there and ValueError for one that is not of this form, or lacks a
    judge prompt or a reference that is needed.
    """
    folder = find_bench(path)
    references = _references(folder)
    questions = [_question(line, references, where) for where, line in _lines(folder / QUESTIONS)]
    if len({question.id for question in questions}) < len(questions):
        raise ValueError(f"{OPTION}={path}: {QUESTIONS} has two questions of one question_id")
    prompts = _prompts(_prompts_file(folder))
    absent = [name for mode in modes for name in NAMES[mode] if name not in prompts]
    if absent:
        raise ValueError(f"{OPTION}={path}: {PROMPTS} has no prompt {absent[0]}")
    return Bench(questions=spread(questions, count), prompts=prompts)


def find_bench(path: str) -> Path:
    """The folder, once its three parts are seen. Raises FileNotFoundError, saying where they are to be had."""
    folder = Path(path).expanduser()
    name = f"{OPTION}={path}"
    if not folder.is_dir():
        raise FileNotFoundError(f"{name}: no such folder; give one with MT-Bench's files ({WHERE})")
    for file, there in (
        (QUESTIONS, (folder / QUESTIONS).is_file()),
        (PROMPTS, _prompts_file(folder).is_file()),
        (f"{REFERENCES}/*.jsonl", any((folder / REFERENCES).glob("*.jsonl"))),
    ):
        if not there:
            raise FileNotFoundError(f"{name}: has no {file}; give a folder with MT-Bench's files ({WHERE})")
    return folder


def spread(questions: Sequence[Question], count: int | None) -> list[Question]:
    """`count` of the questions, as evenly over the categories as that goes, in their own order."""
    if count is None or count >= len(questions):
        return list(questions)
    seen: defaultdict[str, int] = defaultdict(int)
    places = []
    for number, question in enumerate(questions):
        places.append((seen[question.category], number))
        seen[question.category] += 1
    chosen = sorted(number for _, number in sorted(places)[:count])
    return [questions[number] for number in chosen]


def _prompts_file(folder: Path) -> Path:
    """FastChat has it one folder up."""
    beside = folder / PROMPTS
    return beside if beside.is_file() else folder.parent / PROMPTS


def _references(folder: Path) -> dict[int, tuple[str, str]]:
    """The reference answers: those of gpt-4, which are the benchmark's own, else of the only model that is there."""
    files = sorted((folder / REFERENCES).glob("*.jsonl"))
    own = folder / REFERENCES / "gpt-4.jsonl"
    if own not in files and len(files) > 1:
        raise ValueError(f"{OPTION}={folder}: {REFERENCES} has {len(files)} files and no gpt-4.jsonl; leave one there")
    found = {}
    for where, line in _lines(own if own in files else files[0]):
        try:
            found[int(line["question_id"])] = _two(line["choices"][0]["turns"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f"{where}: no reference answer of {TURNS} turns") from error
    return found


def _question(line: dict[str, Any], references: dict[int, tuple[str, str]], where: str) -> Question:
    try:
        number, category, turns = int(line["question_id"]), str(line["category"]), _two(line["turns"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: no question of {TURNS} turns with question_id and category") from error
    needed = category in NEED_REFERENCE
    if needed and number not in references:
        raise ValueError(f"{where}: question {number} ({category}) is judged by a reference, and {REFERENCES} has none")
    return Question(id=number, category=category, turns=turns, reference=references[number] if needed else None)


def _two(turns: Any) -> tuple[str, str]:
    first, second = turns
    if not isinstance(first, str) or not isinstance(second, str):
        raise TypeError("a turn is a text")
    return first, second


def _prompts(file: Path) -> dict[str, JudgePrompt]:
    found = {}
    for where, line in _lines(file):
        try:
            found[str(line["name"])] = JudgePrompt(
                system=str(line["system_prompt"]), template=str(line["prompt_template"])
            )
        except KeyError as error:
            raise ValueError(f"{where}: no judge prompt (it has no {error})") from error
    return found


def _lines(file: Path) -> list[tuple[str, dict[str, Any]]]:
    """Each line of a file, and where it is."""
    found = []
    for number, text in enumerate(file.read_text(encoding="utf-8").split("\n"), start=1):
        if not text.strip():
            continue
        where = f"{file}, line {number}"
        try:
            line = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{where}: is not JSON") from error
        if not isinstance(line, dict):
            raise ValueError(f"{where}: is no object")
        found.append((where, line))
    return found
