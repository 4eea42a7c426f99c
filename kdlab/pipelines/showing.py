"""The plan of a pipeline, printed: its stages, their commands and folders, and what is finished."""

from __future__ import annotations

import shlex
from pathlib import Path

from kdlab.pipelines.job import shown
from kdlab.pipelines.planning import Knows, plan
from kdlab.pipelines.recipe import PipelineConfig
from kdlab.pipelines.record import FILE, PipelineRecord


def show_plan(config: PipelineConfig, output_dir: Path, *, knows: Knows, config_dir: str | None = None) -> None:
    """Print what `run_pipeline` would do in `output_dir`, as commands that can be typed. Raises what it raises before
    the first stage."""
    folder = shown(output_dir)
    planned = plan(config, folder, knows=knows)
    record = PipelineRecord(folder, planned, head={})
    print(f"{config.name}: {len(planned)} stages in {folder}; how far it is: {folder / FILE}")
    for number, stage in enumerate(planned, start=1):
        entry = record.stage(stage.name)
        state = {
            "finished": "finished already",
            "off": f"left out; stages.{stage.name}.enabled=true lets it run",
        }.get(entry["status"], "to run")
        print(f"\n{number} {stage.name}: {state}\n  {stage.folder}")
        if stage.enabled:
            print(f"  {shlex.join(stage.command(config_dir))}")
        else:
            print(f"  kdlab {stage.verb} {' '.join(stage.options)}".rstrip())
