"""The jobs of `kdlab train`: one run, or a sweep. Checked here, launched by Hydra."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from kdlab.commands.failures import complain
from kdlab.commands.flags import Flags
from kdlab.config import ConfigError
from kdlab.config.compose import Composer
from kdlab.config.loading import Loaded, check, is_sweep, load_with, sweep_jobs
from kdlab.config.overrides import with_plus
from kdlab.training.ranks import launched, rank


def start(flags: Flags) -> int:
    """Check what is asked for, then hand it to Hydra."""
    composer = Composer("train", flags.config_dir)
    if flags.multirun or is_sweep(composer, flags.overrides):
        return sweep(composer, flags)
    loaded = load_with(composer, flags.overrides)
    if loaded.is_sweep:
        return sweep(composer, flags)
    if flags.show:
        print(OmegaConf.to_yaml(OmegaConf.create(loaded.resolved)), end="")
        return 0
    return int(composer.hydra.run("train", run_job, list(loaded.overrides)).return_value)


def sweep(composer: Composer, flags: Flags) -> int:
    """Check every job, launch them all, then report on them together."""
    jobs = sweep_jobs(composer, flags.overrides)
    checked = [load_with(composer, job) for job in jobs or []]
    check_sweep(checked)
    if flags.show:
        for loaded in checked:
            print(f"# {loaded.output_dir}\n{OmegaConf.to_yaml(OmegaConf.create(loaded.resolved))}")
        return 0
    overrides = [*with_plus("train", flags.overrides), "hydra.mode=MULTIRUN"]
    returned = composer.hydra.multirun("train", run_job, overrides)
    failed = [job for batch in returned or [] for job in batch if job.return_value != 0]
    folders = [loaded.output_dir for loaded in checked if (loaded.output_dir / "run.json").is_file()]
    if len(folders) > 1 and rank(max(loaded.config.trainer.devices for loaded in checked)) == 0:
        report(folders, folders[0].parent / "report.html")
    for job in failed:
        print(f"failed: {' '.join(job.overrides or [])}", file=sys.stderr)
    return 1 if failed else 0


def check_sweep(jobs: Sequence[Loaded]) -> None:
    """Each job has its own folder, and its devices are started from outside.

    Lightning starts the processes of several devices by running the command again: of a sweep, all of it.
    """
    seen: set[Path] = set()
    for job in jobs:
        if job.output_dir in seen:
            raise ConfigError(f"-m: two jobs would both write to {job.output_dir}; give them different options")
        seen.add(job.output_dir)
        devices = job.config.trainer.devices
        if devices > 1 and job.launcher == "basic" and not launched():
            raise ConfigError(
                f"trainer.devices={devices} with -m: each process would run the whole sweep again; "
                f"run the jobs one by one, or start kdlab by torchrun or srun"
            )


def run_job(composed: DictConfig) -> int:
    """One job, called by Hydra or its launcher, perhaps on another machine. Returns the exit status."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    overrides = [str(line).removeprefix("++") for line in hydra.overrides.task]
    try:
        config, resolved = check("train", composed, overrides)
        from kdlab.training.run import train

        run = train(config, output_dir=folder, resolved=resolved, overrides=overrides)
        if rank(config.trainer.devices) == 0:
            from kdlab.reporting.report import write_samples

            write_samples(run, folder / "samples.md")
            report([folder], folder / "report.html")
    except Exception as error:  # one job of a sweep may fail without the others
        if os.environ.get("KDLAB_DEBUG") and hydra.mode != RunMode.MULTIRUN:
            raise
        return complain(error, folder=folder)
    return 0


def report(folders: list[Path], page: Path) -> None:
    """Write the page of these runs and print their table."""
    from kdlab.reporting.report import print_table, write_page

    print_table(folders)
    print(f"page: {write_page(folders, page)}")
