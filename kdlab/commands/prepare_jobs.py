"""What a job of `kdlab prepare` does."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from kdlab.commands.jobs import Job

PLOT = "label_distribution.svg"


def work(job: Job) -> None:
    """Write the record and, of classes in folds, a plot of how they are spread."""
    from kdlab.classifying.preparing import prepare

    record = prepare(job.config, output_dir=job.folder, resolved=job.resolved, overrides=job.overrides)
    print(f"folds: {job.folder / record['files']['folds']}")
    plot(record, job.folder)


def plot(record: dict[str, Any], folder: Path) -> None:
    """Draw how the classes are spread over the folds, where there are both."""
    counts = record["folds"].get("counts")
    if not counts or not counts[0]:
        return
    if importlib.util.find_spec("matplotlib") is None:
        print("no plot of the classes: needs matplotlib, which is not installed: pip install 'kdlab[report]'")
        return
    from kdlab.reporting.labels_plot import label_distribution

    drawn = label_distribution(counts, record["classes"]["names"])
    (folder / PLOT).write_text(drawn, encoding="utf-8")
    print(f"plot: {folder / PLOT}")
