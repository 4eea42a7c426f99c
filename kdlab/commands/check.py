"""kdlab check: would this run fit and work? In seconds, and without loading a weight.

    kdlab check experiment=quickstart
    kdlab check teacher=gpt2_xl student=gpt2 dataset=dolly trainer.batch_size=4
    kdlab check experiment=quickstart --memory 8 --json check.json

Takes the options of `kdlab train`. Builds the dataset, sizes both models, and says for memory, time, disk, tokenizers
and data whether they do; exit status 1 and the remedy where the run would fail, or where that cannot be known.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdlab.commands.failures import answered
from kdlab.commands.flags import CheckFlags, check_flags
from kdlab.config import ConfigError

GIB = 2**30


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0 it would run, 1 it would fail, 2 mistyped, 130 interrupted."""
    return answered(lambda: _main(argv), interrupted="interrupted")


def _main(argv: Sequence[str]) -> int:
    flags = check_flags(argv)
    if flags.help:
        from kdlab.commands.job_help import help_text

        print(help_text("check", flags.config_dir))
        return 0
    return run(flags)


def run(flags: CheckFlags) -> int:
    """Check the run, or every run of a sweep; the worst exit status."""
    from kdlab.config.compose import Composer
    from kdlab.config.loading import is_sweep, load_with, sweep_jobs

    composer = Composer("train", flags.config_dir)
    jobs = [flags.overrides]
    if flags.multirun or is_sweep(composer, flags.overrides):
        found_jobs = sweep_jobs(composer, flags.overrides)
        if found_jobs is None:
            raise ConfigError("-m: this sweeper chooses its jobs as it goes; check them one by one")
        jobs = found_jobs
    loaded = [load_with(composer, job) for job in jobs]
    from kdlab.preflight.check import check_run
    from kdlab.preflight.printing import print_findings

    memory = None if flags.memory is None else int(flags.memory * GIB)
    found: list[dict[str, Any]] = []
    status = 0
    for job in loaded:
        if len(loaded) > 1:
            print(f"{job.output_dir}")
        findings = check_run(
            job.config, overrides=job.overrides, output_dir=job.output_dir, memory_bytes=memory, probe=flags.probe
        )
        print_findings(findings)
        found.append(findings.as_dict())
        status = max(status, findings.status)
    if flags.json is not None:
        write(Path(flags.json), found[0] if len(found) == 1 else {"schema": 1, "jobs": found})
    return status


def write(file: Path, content: dict[str, Any]) -> None:
    """The findings as JSON: one object, or of a sweep all of them under `jobs`."""
    try:
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--json {file}: cannot be written ({error.strerror})") from error
