"""What a job of `kdlab export` does."""

from __future__ import annotations

from kdlab.commands.jobs import Job


def work(job: Job) -> None:
    from kdlab.exporting.job import export

    export(job.config, output_dir=job.folder, resolved=job.resolved, overrides=job.overrides)
