"""What a job of `kdlab cache` does."""

from __future__ import annotations

from kdlab.commands.jobs import Job


def work(job: Job) -> None:
    """Write what is missing of the cache."""
    from kdlab.caching.job import cache

    cache(job.config, output_dir=job.folder, overrides=job.overrides)
