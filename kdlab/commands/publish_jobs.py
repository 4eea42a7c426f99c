"""What a job of `kdlab publish` does."""

from __future__ import annotations

from kdlab.commands.jobs import Job


def work(job: Job) -> None:
    from kdlab.publishing.job import publish

    publish(job.config, output_dir=job.folder, resolved=job.resolved, overrides=job.overrides)
