"""`generate`: let a model write answers to a dataset's questions, and keep them as data to train on.

generate(config, output_dir=Path("multirun/generate/..."), resolved=..., overrides=[])

It leaves answers.jsonl (every text), data.jsonl (what is kept, for `kdlab train dataset.path=.../data.jsonl`) and
generation.json. Not kept: texts that were stopped by the limit (they would teach never to stop), empty ones, repeats of
an answer to the same question, and with `keep=correct` those that do not come to the reference's number; each counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.answering.answers_file import Answer
from kdlab.answering.job import answer_all
from kdlab.answering.record import Record
from kdlab.answering.telling import limit_line
from kdlab.durable import FolderLock, write_atomically
from kdlab.models.progress import say

if TYPE_CHECKING:
    from kdlab.answering.recipe import GenerateConfig

GENERATION = "generation.json"
DATA = "data.jsonl"


def generate(
    config: GenerateConfig, *, output_dir: Path, resolved: dict[str, Any], overrides: list[str]
) -> dict[str, Any]:
    """Write whatever answers are missing in `output_dir`, then the data; return the content of generation.json.

    The same call on the same folder continues what was killed, and says so where nothing is left to do. Raises as
    `evaluate` does, and ValueError where no text is worth keeping.
    """
    resolved = json.loads(json.dumps(resolved))
    with FolderLock(output_dir):
        record = Record(output_dir / GENERATION, verb="generate", resolved=resolved, overrides=overrides)
        if record.done:
            print(f"{output_dir}: all answers are written; delete the folder to write them again")
        else:
            if config.prompt.gives_answer:
                say(f"prompt={config.prompt.name}: the model is shown the reference answer: it does not find it itself")
            needs = "keep=correct" if config.keep == "correct" else None
            answers = answer_all(config, record, wording=config.prompt.of_teacher, must_judge=needs)
            _conclude(record, answers, config)
        _tell(record.content, output_dir)
        if not record.content["kept"]:
            count, limit = record.content["answer_count"], config.writing.max_new_tokens
            cut = record.content["limit_reached"] == count
            remedy = f"; raise writing.max_new_tokens={limit}, which all of them reached" if cut else ""
            raise ValueError(f"{output_dir / DATA}: none of {count:,} texts could be kept{remedy}")
        return record.content


def _conclude(record: Record, answers: Sequence[Answer], config: GenerateConfig) -> None:
    """Write data.jsonl and close the record."""
    kept, left_out = choose(answers, correct_only=config.keep == "correct")
    content = "".join(json.dumps(_row(answer), ensure_ascii=False) + "\n" for answer in kept).encode()
    write_atomically(record.path.parent / DATA, lambda file: file.write(content))
    judged = [answer for answer in answers if answer["correct"] is not None]
    record.content |= {
        "accuracy": {"correct": sum(answer["correct"] for answer in judged), "count": len(judged)} if judged else None,
        "rules": config.rules,
        "keep": config.keep,
        "kept": len(kept),
        "left_out": left_out,
        "files": {"data": DATA},
    }
    record.finish()


def choose(answers: Sequence[Answer], *, correct_only: bool) -> tuple[list[Answer], dict[str, int]]:
    """The answers to train on, and how many others there are for each reason that keeps them out."""
    kept: list[Answer] = []
    left_out: Counter[str] = Counter()
    seen: set[tuple[str, str, str]] = set()
    for answer in answers:
        text = answer["text"].strip()
        same = (answer.get("system", ""), answer["question"], text)
        if answer["stopped"] == "limit":
            left_out["that reached writing.max_new_tokens"] += 1
        elif not text:
            left_out["that are empty"] += 1
        elif correct_only and answer["correct"] is None:
            left_out["whose reference comes to no number"] += 1
        elif correct_only and not answer["correct"]:
            left_out["that do not come to the reference's number"] += 1
        elif same in seen:
            left_out["that repeat an answer to the same question"] += 1
        else:
            seen.add(same)
            kept.append(answer)
    return kept, dict(left_out)


def _row(answer: Answer) -> dict[str, Any]:
    """A row of the format `question_answer`: the question is the dataset's, never the wording that a teacher read."""
    told = {"system": answer["system"]} if "system" in answer else {}
    named = {name: answer[name] for name in ("row", "draw", "tokens", "stopped", "correct")}
    return {**told, "question": answer["question"], "answer": answer["text"].strip(), **named}


def _tell(content: dict[str, Any], folder: Path) -> None:
    print(limit_line(content))
    judged = content["accuracy"]
    if judged is not None:
        print(f"{judged['correct']:,} of {judged['count']:,} come to the reference's number")
    out = ", ".join(f"{count:,} {why}" for why, count in content["left_out"].items())
    print(f"{content['kept']:,} of {content['answer_count']:,} texts kept" + (f"; not {out}" if out else ""))
    print(f"data: {folder / DATA}")
