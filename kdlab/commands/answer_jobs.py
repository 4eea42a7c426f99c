"""What a job of `kdlab generate` and one of `kdlab evaluate` do."""

from __future__ import annotations

from pathlib import Path

from kdlab.commands.jobs import Job
from kdlab.config.loading import Loaded
from kdlab.durable import read_json


def generating(job: Job) -> None:
    """Let the model write, and keep its texts as data."""
    from kdlab.answering.generate import generate

    generate(job.config, output_dir=job.folder, resolved=job.resolved, overrides=job.overrides)


def evaluating(job: Job) -> None:
    """Let the model write, and judge its texts; or, with dataset.labels, its decisions."""
    if job.config.dataset.labels is not None:
        from kdlab.classifying.evaluating import evaluate_classifier

        evaluate_classifier(job.config, output_dir=job.folder, resolved=job.resolved, overrides=job.overrides)
        return
    from kdlab.answering.evaluate import evaluate

    evaluate(job.config, output_dir=job.folder, resolved=job.resolved, overrides=job.overrides)


def compared(jobs: list[Loaded]) -> None:
    """One table of all jobs of a sweep that were judged."""
    folders = [job.output_dir for job in jobs if _is_judged(job.output_dir)]
    if len(folders) > 1:
        from kdlab.answering.telling import together

        print(together(folders))


def _is_judged(folder: Path) -> bool:
    found = read_json(folder / "evaluation.json")
    return isinstance(found, dict) and found.get("status") == "finished" and found["accuracy"]["count"] > 0
