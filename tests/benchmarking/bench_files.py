"""A small MT-Bench: five questions of three categories, two of them with references."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kdlab.benchmarking.questions import NAMES

CATEGORIES = ("writing", "math", "writing", "stem", "math")
"""Of the questions 81 to 85."""


def questions() -> list[dict[str, Any]]:
    return [
        {"question_id": number, "category": category, "turns": [f"Say {number}.", f"And {{twice}} {number}?"]}
        for number, category in enumerate(CATEGORIES, start=81)
    ]


def prompts() -> list[dict[str, Any]]:
    """The eight prompts, as short as can be, with the placeholders of FastChat's."""
    found = []
    for mode, names in NAMES.items():
        for place, name in enumerate(names):
            multi, reference = place >= 2, place % 2 == 1
            sides = ("answer",) if mode == "single" else ("answer_a", "answer_b")
            turns = ("_1", "_2") if multi else ("",)
            asked = [f"{{question{turn}}}" for turn in turns]
            given = [f"{{{side}{turn}}}" for side in sides for turn in turns]
            truth = [f"{{ref_answer{turn}}}" for turn in (("_1", "_2") if multi else ("_1",))] if reference else []
            template = f"{name} Q {' | '.join(asked)} R {' | '.join(truth)} A {' | '.join(given)}"
            found.append({"name": name, "system_prompt": f"You judge ({mode}).", "prompt_template": template})
    return found


def write_lines(file: Path, lines: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def write_bench(place: Path) -> Path:
    write_lines(place / "question.jsonl", questions())
    write_lines(place / "judge_prompts.jsonl", prompts())
    references = [
        {"question_id": number, "choices": [{"index": 0, "turns": [f"truth {number}", f"second truth {number}"]}]}
        for number in (82, 85)
    ]
    write_lines(place / "reference_answer" / "gpt-4.jsonl", references)
    return place
