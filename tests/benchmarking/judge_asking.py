"""Answers to the small MT-Bench, judged by a server that a test has, as in a fresh process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from judge_server import JudgeServer

from kdlab.benchmarking.jobs import Job, single_jobs
from kdlab.benchmarking.judges import open_judge
from kdlab.benchmarking.judging import judge_missing
from kdlab.benchmarking.lines import Lines
from kdlab.benchmarking.questions import Bench
from kdlab.benchmarking.recipe import JudgeConfig

ANSWERS = {number: (f"one {number}", f"two {number}") for number in range(81, 86)}


def asked(bench: Bench, folder: Path, config: JudgeConfig) -> tuple[list[Job], Lines]:
    """Judge the answers of a fresh process in `folder`."""
    judge, file = open_judge(config, device=torch.device("cpu")), Lines(folder / "judgments.jsonl")
    jobs = single_jobs(bench, ANSWERS, stage="before", judge=judge.identity)
    judge_missing(jobs, judge, file, tries=config.tries, progress=False)
    return jobs, file


def judge_config(server: JudgeServer, **options: Any) -> JudgeConfig:
    """Impatient between its attempts."""
    return JudgeConfig(**({"url": server.url, "pause": 0.01, "timeout": 5.0, "attempts": 4} | options))
