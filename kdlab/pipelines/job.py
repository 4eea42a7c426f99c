"""`run_pipeline`: run the stages of a pipeline, one after the other, and go on where it was interrupted.

run_pipeline(config, output_dir=folder, resolved=resolved, overrides=overrides, knows=knows)

Each stage is a process of its own in a folder of its own; it knows by itself how to go on.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kdlab.durable import FolderLock
from kdlab.pipelines.planning import Knows, Planned, plan, with_config_dir
from kdlab.pipelines.process import run_stage
from kdlab.pipelines.recipe import PipelineConfig
from kdlab.pipelines.record import FINISHED, PipelineRecord

INTERRUPTED = 130


class StageFailed(RuntimeError):  # noqa: N818 (it is the stage that failed)
    """A stage ended with another status than 0, which is `exit_status`."""

    def __init__(self, message: str, *, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def run_pipeline(
    config: PipelineConfig,
    *,
    output_dir: Path,
    resolved: dict[str, Any],
    overrides: list[str],
    knows: Knows,
    config_dir: str | None = None,
    run: Callable[[Sequence[str]], int] = run_stage,
) -> dict[str, Any]:
    """The content of pipeline.json, which is written at every change. `run` takes the words after `kdlab` and gives the
    exit status.

    Raises StageFailed where a stage failed; ValueError where a finished stage is to be run with other options, and
    where another process is at work in the folder.
    """
    from kdlab.training.manifest import record_head

    folder = shown(output_dir)
    planned = plan(config, folder, knows=knows)
    with FolderLock(folder):
        record = PipelineRecord(folder, planned, head=record_head("pipeline", resolved, overrides))
        record.write()
        for number, stage in enumerate(planned, start=1):
            where = f"stage {number} of {len(planned)}, {stage.name}"
            if record.done(stage.name):
                print(f"{where}: finished already", flush=True)
            elif not stage.enabled:
                print(f"{where}: left out (stages.{stage.name}.enabled=false)", flush=True)
            else:
                print(f"{where}: {shlex.join(stage.command(config_dir))}", flush=True)
                _run(stage, record, config_dir, run, overrides)
        record.end(FINISHED)
    return record.content


def _run(
    stage: Planned,
    record: PipelineRecord,
    config_dir: str | None,
    run: Callable[[Sequence[str]], int],
    overrides: list[str],
) -> None:
    record.set(stage.name, "running")
    began = time.perf_counter()
    try:
        status = run(with_config_dir(stage.words(), config_dir))
    except KeyboardInterrupt:
        record.set(stage.name, "interrupted", seconds=time.perf_counter() - began)
        record.end("interrupted")
        raise
    seconds = time.perf_counter() - began
    if status == 0:
        record.set(stage.name, FINISHED, seconds=seconds)
        return
    how = "interrupted" if status == INTERRUPTED else "failed"
    error = record.own_error(stage.name) or f"exit status {status}"
    record.set(stage.name, how, seconds=seconds, error=error)
    record.end(how)
    killed = " (killed: out of memory, perhaps)" if status == 128 + 9 else ""
    words = with_config_dir(["pipeline", *(line.removeprefix("++") for line in overrides)], config_dir)
    again = shlex.join(["kdlab", *words])
    raise StageFailed(
        f"stage {stage.name} {how}, status {status}{killed}: what it said is above; when that is mended, the same "
        f"command goes on there: {again}",
        exit_status=status,
    )


def shown(folder: Path) -> Path:
    """A folder as a user would type it here: without what lies above the one we are in. Stages are told so too, so that
    a tree of outputs may be moved."""
    whole = Path(os.path.abspath(folder))
    return whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole
