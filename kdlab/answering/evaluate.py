"""`evaluate`: let a model answer a dataset's questions and judge its answers.

evaluate(config, output_dir=Path("multirun/evaluate/..."), resolved=..., overrides=[])

It leaves answers.jsonl, evaluation.json and, where answers have no number that the rules can find, unresolved.csv,
which comes back with a person's grades as `manual`. An answer counts where its reference has a number; an unresolved
one counts as not correct.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.answering.answers_file import Answer, AnswersFile
from kdlab.answering.job import answer_all
from kdlab.answering.judging import MANUAL, UNRESOLVED_FILE, graded, is_judged, is_unresolved, write_unresolved
from kdlab.answering.record import Record
from kdlab.answering.telling import limit_line, table
from kdlab.durable import FolderLock

if TYPE_CHECKING:
    from kdlab.answering.recipe import EvaluateConfig

EVALUATION = "evaluation.json"


def evaluate(
    config: EvaluateConfig, *, output_dir: Path, resolved: dict[str, Any], overrides: list[str]
) -> dict[str, Any]:
    """Write and judge whatever is missing in `output_dir`, tell how it went, return the content of evaluation.json.

    The same call on the same folder continues what was killed; where all is written it judges with the grades of
    `config.manual`, and loads no model. `resolved` is the config as plain values, `overrides` how the user made it.

    Raises ValueError or FileNotFoundError with one line: options that do not fit, a folder of other options or in use,
    grades that do not fit the answers, a full disk.
    """
    resolved = json.loads(json.dumps(resolved))
    if config.manual is not None and not Path(config.manual).expanduser().is_file():
        raise FileNotFoundError(f"manual={config.manual}: no such file")
    with FolderLock(output_dir):
        record = Record(output_dir / EVALUATION, verb="evaluate", resolved=resolved, overrides=overrides)
        file = AnswersFile(output_dir)
        if record.done:
            print(f"{output_dir}: all answers are written; delete the folder to write them again")
            answers = file.read()
            _conclude(record, answers, config)  # a process that was killed between grades and counts left old counts
        else:
            answers = answer_all(config, record, wording=config.prompt.student, must_judge="kdlab evaluate")
            write_unresolved(output_dir, answers, seed=config.seed)
            _conclude(record, answers, config)
        if config.manual is not None:
            answers = graded(answers, config.manual)
            file.replace(answers)
            record.content["manual"] = config.manual
            _conclude(record, answers, config)
        _tell(record.content, answers, output_dir)
        return record.content


def _conclude(record: Record, answers: Sequence[Answer], config: EvaluateConfig) -> None:
    """Close the record: counts alone, so that no percentage can disagree with them."""
    counted = [answer for answer in answers if is_judged(answer)]
    record.content |= {
        "accuracy": {
            "correct": sum(answer["correct"] for answer in counted),
            "count": len(counted),
            "unresolved": sum(map(is_unresolved, counted)),
            "manual": sum(answer["rule"] == MANUAL for answer in counted),
        },
        "left_out": len(answers) - len(counted),
        "rules": config.rules,
        "by_rule": _by_rule(counted),
        "manual": record.content.get("manual"),
    }
    record.finish()


def _by_rule(counted: Sequence[Answer]) -> dict[str, dict[str, int]]:
    """Of each rule that fired: in how many answers, and how many of these are correct."""
    count, correct = (
        Counter(answer["rule"] for answer in counted),
        Counter(answer["rule"] for answer in counted if answer["correct"]),
    )
    return {rule: {"count": number, "correct": correct[rule]} for rule, number in count.most_common()}


def _tell(content: dict[str, Any], answers: Sequence[Answer], folder: Path) -> None:
    found = content["accuracy"]
    print(table(content, answers))
    print(limit_line(content))
    if content["left_out"]:
        print(f"{content['left_out']:,} answers are left out: their reference comes to no number")
    if found["unresolved"]:
        print(
            f"{found['unresolved']:,} answers are unresolved and count as wrong: grade them in "
            f"{folder / UNRESOLVED_FILE}, then the same command with --manual FILE"
        )
    if content["manual"] is not None:
        print(f"{found['manual']:,} answers were graded by hand ({content['manual']})")
    print(f"answers: {folder / content['answers']}")
