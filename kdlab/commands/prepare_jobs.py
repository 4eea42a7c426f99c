"""What a job of `kdlab prepare` does."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from kdlab.commands.jobs import Job

PLOT = "label_distribution.svg"


def work(job: Job) -> None:
    """Write the record and, of folds, a plot of how the classes or numbers are spread over them."""
    from kdlab.classifying.preparing import prepare

    record = prepare(job.config, output_dir=job.folder, resolved=job.resolved, overrides=job.overrides)
    print(f"folds: {job.folder / record['files']['folds']}")
    plot(record, job.folder)


def plot(record: dict[str, Any], folder: Path) -> None:
    """Draw how the classes, or the numbers, are spread over the folds, where there are folds."""
    counts, names = record["folds"].get("counts"), record["classes"]["names"]
    if not counts:
        return
    if importlib.util.find_spec("matplotlib") is None:
        print("no plot of the labels: needs matplotlib, which is not installed: pip install 'kdlab[report]'")
        return
    from kdlab.reporting.labels_plot import label_distribution, number_distribution
    from kdlab.reporting.plots import alone

    drawn = label_distribution(counts, names) if counts[0] else number_distribution(record["folds"]["spread"], names[0])
    (folder / PLOT).write_text(alone(drawn), encoding="utf-8")
    print(f"plot: {folder / PLOT}")
