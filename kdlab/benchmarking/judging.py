"""Judgements that are asked for once: what is in judgments.jsonl is not asked again, however often a job is killed.

Every answer of a judge is a line of its own, those without a rating too, so that what was spent is known to the token.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from kdlab.answering.progress import WritingBar
from kdlab.benchmarking.jobs import Job
from kdlab.benchmarking.judges import LIMIT, Judge, Said
from kdlab.benchmarking.lines import Line, Lines
from kdlab.benchmarking.recipe import JudgeConfig
from kdlab.benchmarking.verdicts import rating, verdict

READ: dict[str, Callable[[str], Any]] = {"single": rating, "pairwise": verdict}
"""How a judgement of each mode is read."""


def judge_missing(jobs: Sequence[Job], judge: Judge, file: Lines, *, tries: int, progress: bool) -> None:
    """Ask for every judgement that `file` lacks, again where it cannot be read, up to `tries` times in all."""
    left, told = sum(not settled(file.of(job.key), tries) for job in jobs), threading.Lock()
    with WritingBar(total=len(jobs), done=len(jobs) - left, shown=progress) as bar:

        def keep(job: Job, said: Said) -> None:
            tried = len(file.of(job.key))
            line = _line(job, said, tried + 1)
            file.add([line])
            if settled([line], tries - tried):
                with told:
                    bar.advance(answers=1, tokens=said.tokens_out or 0)

        for tried in range(tries):
            now = [job for job in jobs if len(file.of(job.key)) == tried and not settled(file.of(job.key), tries)]
            if now:
                judge.judge([(job, tried) for job in now], keep)


def settled(lines: Sequence[Line], tries: int) -> bool:
    """Whether a judgement has been read, or asked for often enough."""
    return len(lines) >= tries or any(line["says"] is not None for line in lines)


def says(job: Job, file: Lines) -> Any:
    """The rating or verdict of a job, None where no try gave one."""
    return next((line["says"] for line in file.of(job.key) if line["says"] is not None), None)


def cut_short(jobs: Sequence[Job], file: Lines) -> int:
    """How many judgements, of those that no try could be read of, reached `max_tokens` at the last."""
    unread = (file.of(job.key) for job in jobs if says(job, file) is None)
    return sum(lines[-1]["stopped"] == LIMIT for lines in unread if lines)


def cost(jobs: Sequence[Job], file: Lines, config: JudgeConfig) -> dict[str, Any]:
    """What all tries of these jobs have taken: `requests` answered, `tokens_in` and `tokens_out` as the judge counts
    them, the `price` (None without prices), and `uncounted`, the requests whose tokens it did not tell."""
    totals: defaultdict[str, int] = defaultdict(int)
    for line in (line for job in jobs for line in file.of(job.key)):
        totals["requests"] += 1
        totals["uncounted"] += line["tokens_in"] is None or line["tokens_out"] is None
        for name in ("tokens_in", "tokens_out"):
            totals[name] += line[name] or 0
    return {
        "requests": totals["requests"],
        "tokens_in": totals["tokens_in"],
        "tokens_out": totals["tokens_out"],
        "price": config.price(totals["tokens_in"], totals["tokens_out"]),
        "uncounted": totals["uncounted"],
    }


def _line(job: Job, said: Said, number: int) -> Line:
    return {
        "key": job.key,
        "mode": job.mode,
        "stage": job.stage,
        "question_id": job.question.id,
        "category": job.question.category,
        "turn": job.turn,
        "try": number,
        "says": READ[job.mode](said.text),
        "judgement": said.text,
        "tokens_in": said.tokens_in,
        "tokens_out": said.tokens_out,
        "stopped": said.stopped,
    }
