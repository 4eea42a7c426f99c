"""The jobs of a verb that takes options: one, or a sweep. Checked here, launched by Hydra."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from kdlab.commands.failures import complain
from kdlab.commands.flags import Flags
from kdlab.config import ConfigError
from kdlab.config.compose import Composer
from kdlab.config.loading import Loaded, check, is_sweep, load_with, sweep_jobs
from kdlab.config.overrides import with_plus
from kdlab.pipelines.job import StageFailed
from kdlab.training.ranks import launched


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job, checked: its config (as `config.options.ROOTS` types it), the same as plain values, how the user made
    it, and its folder."""

    config: Any
    resolved: dict[str, Any]
    overrides: list[str]
    folder: Path


def start(
    verb: str, flags: Flags, work: Callable[[Job], None], *, together: Callable[[list[Loaded]], None] | None = None
) -> int:
    """Check what is asked for, then hand it to Hydra, which calls `work` for every job, perhaps on another machine.
    `together` is called with all jobs of a sweep when they are through. Returns the exit status."""
    composer = Composer(verb, flags.config_dir)
    if flags.multirun or is_sweep(composer, flags.overrides):
        return sweep(composer, flags, work, together)
    loaded = load_with(composer, flags.overrides)
    if loaded.is_sweep:
        return sweep(composer, flags, work, together)
    if flags.show:
        print(OmegaConf.to_yaml(OmegaConf.create(loaded.resolved)), end="")
        return 0
    refuse_unwritable(loaded.output_dir, f"hydra.run.dir={loaded.output_dir}")
    return int(composer.hydra.run(verb, partial(run_job, verb, work), list(loaded.overrides)).return_value)


def sweep(
    composer: Composer,
    flags: Flags,
    work: Callable[[Job], None],
    together: Callable[[list[Loaded]], None] | None,
) -> int:
    """Check every job, then launch them all."""
    jobs = sweep_jobs(composer, flags.overrides)
    checked = [load_with(composer, job) for job in jobs or []]
    check_sweep(checked)
    if flags.show:
        for loaded in checked:
            print(f"# {loaded.output_dir}\n{OmegaConf.to_yaml(OmegaConf.create(loaded.resolved))}")
        return 0
    overrides = with_plus(composer.verb, flags.overrides)
    folder = composer.compose(overrides, sweep=True).hydra.sweep.dir
    refuse_unwritable(Path(folder), f"hydra.sweep.dir={folder}")
    overrides.append("hydra.mode=MULTIRUN")
    returned = composer.hydra.multirun(composer.verb, partial(run_job, composer.verb, work), overrides)
    failed = [job for batch in returned or [] for job in batch if job.return_value != 0]
    if together is not None:
        together(checked)
    for job in failed:
        print(f"failed: {' '.join(job.overrides or [])}", file=sys.stderr)
    return 1 if failed else 0


def check_sweep(jobs: Sequence[Loaded]) -> None:
    """Each job has its own folder, and its devices are started from outside.

    Lightning starts the processes of several devices by running the command again: of a sweep, all of it.
    """
    seen: dict[Path, Loaded] = {}
    for job in jobs:
        if (other := seen.setdefault(job.output_dir, job)) is not job:
            remedy = "give them different options"
            if job.overrides != other.overrides:
                remedy = "what they differ in names no folder, so run them one by one, each with a name= of its own"
            raise ConfigError(f"-m: two jobs would both write to {job.output_dir}; {remedy}")
        devices = job.resolved["trainer"]["devices"] if "trainer" in job.resolved else 1
        if devices > 1 and job.launcher == "basic" and not launched():
            raise ConfigError(
                f"trainer.devices={devices} with -m: each process would run the whole sweep again; "
                f"run the jobs one by one, or start kdlab by torchrun or srun"
            )


def refuse_unwritable(folder: Path, name: str) -> None:
    """Raise ValueError, naming the option, where nothing can be written to a folder, or it cannot be made; it is not
    made yet."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(place))
    try:
        with tempfile.TemporaryDirectory(prefix=".kdlab-", dir=there):
            pass
    except OSError as error:
        raise ValueError(f"{name}: cannot be written ({there}: {error.strerror}); give another folder") from error


def run_job(verb: str, work: Callable[[Job], None], composed: DictConfig) -> int:
    """One job, called by Hydra or its launcher, perhaps on another machine. Returns the exit status."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    overrides = [str(line).removeprefix("++") for line in hydra.overrides.task]
    try:
        config, resolved = check(verb, composed, overrides)
        output = resolved.get("output")
        if output is not None and "://" not in output:
            refuse_unwritable(Path(output).expanduser(), f"output={output}")
        work(Job(config=config, resolved=resolved, overrides=overrides, folder=folder))
    except Exception as error:  # one job of a sweep may fail without the others
        if os.environ.get("KDLAB_DEBUG") and hydra.mode != RunMode.MULTIRUN:
            raise
        return complain(error, folder=folder, status=error.exit_status if isinstance(error, StageFailed) else 1)
    return 0
