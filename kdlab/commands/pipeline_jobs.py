"""What a job of `kdlab pipeline` does, and what a sweep of them ends with."""

from __future__ import annotations

from pathlib import Path

from kdlab.commands.flags import Flags
from kdlab.commands.jobs import Job
from kdlab.config.loading import Loaded
from kdlab.pipelines.record import FILE, RECORDS


def work(job: Job) -> None:
    """Run the stages, then write the page of all that they made; or print the plan."""
    from kdlab.config.options import knows
    from kdlab.config.stages import config_dir_in_use
    from kdlab.pipelines.job import VariantsRefused, run_pipeline
    from kdlab.pipelines.showing import show_plan

    config_dir = config_dir_in_use()
    if job.config.dry_run:
        show_plan(job.config, job.folder, knows=knows, config_dir=config_dir)
        return
    try:
        run_pipeline(
            job.config,
            output_dir=job.folder,
            resolved=job.resolved,
            overrides=job.overrides,
            knows=knows,
            config_dir=config_dir,
            elsewhere=_elsewhere(job.folder),
        )
    except VariantsRefused:  # all else is there to be read
        _report([job.folder])
        raise
    _report([job.folder])


def _elsewhere(folder: Path) -> bool:
    """Whether the options of the job at hand, typed without those of Hydra, would name another folder."""
    from hydra.core.hydra_config import HydraConfig

    node = HydraConfig.get()
    given = any(line.lstrip("+").startswith("hydra.run.dir=") for line in node.overrides.hydra)
    return given or Path(node.run.dir).absolute() != folder.absolute()


def together(jobs: list[Loaded]) -> None:
    """One page and table for all pipelines of a sweep that got as far as a stage with a run."""
    folders = [job.output_dir for job in jobs if (job.output_dir / FILE).is_file()]
    if len(folders) > 1 and not jobs[0].config.dry_run:
        _report(folders)


def show_plans(flags: Flags) -> int:
    """Print the plan of one pipeline, or of every one of a sweep; nothing is written."""
    from kdlab.config.compose import Composer
    from kdlab.config.loading import is_sweep, load_with, sweep_jobs
    from kdlab.config.options import knows
    from kdlab.pipelines.showing import show_plan

    composer = Composer("pipeline", flags.config_dir)
    jobs: list[list[str]] | None = [flags.overrides]
    if flags.multirun or is_sweep(composer, flags.overrides):
        jobs = sweep_jobs(composer, flags.overrides)
    for number, loaded in enumerate([load_with(composer, job) for job in jobs or []]):
        if number:
            print()
        show_plan(loaded.config, loaded.output_dir, knows=knows, config_dir=flags.config_dir)
    return 0


def _report(folders: list[Path]) -> None:
    """The page and table of what the stages made, where any made what a report reads."""
    from kdlab.commands.train_jobs import report

    read = {RECORDS[verb] for verb in ("train", "evaluate")}
    if any(file.name in read for folder in folders for file in folder.glob("*/*.json")):
        page = folders[0] if len(folders) == 1 else folders[0].parent
        report(folders, page / "report.html")
