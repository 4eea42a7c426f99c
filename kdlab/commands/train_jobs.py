"""What a job of `kdlab train` does, and what a sweep of them ends with."""

from __future__ import annotations

from pathlib import Path

from kdlab.commands.jobs import Job
from kdlab.config.loading import Loaded
from kdlab.training.ranks import rank


def work(job: Job) -> None:
    """Train, then write samples and page."""
    from kdlab.training.run import train

    run = train(job.config, output_dir=job.folder, resolved=job.resolved, overrides=job.overrides)
    if rank(job.config.trainer.devices) == 0:
        from kdlab.reporting.report import write_samples

        write_samples(run, job.folder / "samples.md")
        report([job.folder], job.folder / "report.html")


def together(jobs: list[Loaded]) -> None:
    """One page and table for all runs of a sweep that got as far as a run.json."""
    folders = [job.output_dir for job in jobs if (job.output_dir / "run.json").is_file()]
    if len(folders) > 1 and rank(max(job.config.trainer.devices for job in jobs)) == 0:
        report(folders, folders[0].parent / "report.html")


def report(folders: list[Path], page: Path) -> None:
    """Write the page of these runs and print their table."""
    from kdlab.reporting.report import print_table, write_page

    print_table(folders)
    print(f"page: {write_page(folders, page)}")
