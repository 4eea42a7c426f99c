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
from kdlab.pipelines.planning import Knows, Planned, place_of, plan, typed, with_config_dir
from kdlab.pipelines.process import run_stage
from kdlab.pipelines.recipe import PipelineConfig
from kdlab.pipelines.record import FINISHED, PipelineRecord
from kdlab.pipelines.refusal import Refusal, with_remedy

INTERRUPTED = 130


class StageFailed(RuntimeError):  # noqa: N818 (it is the stage that failed)
    """A stage ended with another status than 0, which is `exit_status`."""

    def __init__(self, message: str, *, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class VariantsRefused(StageFailed):
    """All stages are through, but for variants that an export refused and what was to be made of these."""


def run_pipeline(
    config: PipelineConfig,
    *,
    output_dir: Path,
    resolved: dict[str, Any],
    overrides: list[str],
    knows: Knows,
    config_dir: str | None = None,
    elsewhere: bool = False,
    run: Callable[[Sequence[str]], int] = run_stage,
) -> dict[str, Any]:
    """The content of pipeline.json, which is written at every change. `run` takes the words after `kdlab` and gives the
    exit status; `elsewhere` says that the overrides by themselves would name another folder.

    A stage that fails is the last one, but an export that refused a variant: what does not need that is run.

    Raises StageFailed where a stage failed, VariantsRefused at the end where variants did; ValueError where a finished
    stage is to be run with other options, and where another process is at work in the folder.
    """
    from kdlab.training.manifest import record_head

    folder = shown(output_dir)
    planned = plan(config, folder, knows=knows)
    same = typed(overrides, config_dir, place_of(folder, config) if elsewhere else ())
    with FolderLock(folder):
        record = PipelineRecord(folder, planned, head=record_head("pipeline", resolved, overrides))
        record.write()
        refusals: list[Refusal] = []
        for number, stage in enumerate(planned, start=1):
            where = f"stage {number} of {len(planned)}, {stage.name}"
            if record.done(stage.name):
                print(f"{where}: finished already", flush=True)
            elif not stage.enabled:
                print(f"{where}: left out (stages.{stage.name}.enabled=false)", flush=True)
            elif lacking := _lacking(stage, refusals, record):
                print(f"{where}: not run: {lacking}", flush=True)
                record.set(stage.name, "waiting", error=lacking)
            else:
                print(f"{where}: {shlex.join(stage.command(config_dir))}", flush=True)
                refusal = _run(stage, record, config_dir, run, same)
                refusals += [] if refusal is None else [refusal]
        record.end("failed" if refusals else FINISHED)
    if refusals:
        raise VariantsRefused(_refused(config, planned, record, refusals, overrides, config_dir), exit_status=1)
    return record.content


def _lacking(stage: Planned, refusals: Sequence[Refusal], record: PipelineRecord) -> str:
    """What a stage needs that is not good since a variant was refused; "" where it needs nothing such."""
    variants = [f"{refusal.stage.name}/{name}" for refusal in refusals for name in refusal.lacks(stage)]
    stages = [name for name in stage.uses if record.stage(name)["status"] == "waiting"]
    needed = [f"{name}, which is not good" for name in variants] + [f"{name}, which was not run" for name in stages]
    return f"needs {'; '.join(needed)}" if needed else ""


def _run(
    stage: Planned,
    record: PipelineRecord,
    config_dir: str | None,
    run: Callable[[Sequence[str]], int],
    same: str,
) -> Refusal | None:
    """Run a stage; what it refused, None where all is well. Raises StageFailed for any other failure, which says the
    `same` command."""
    record.set(stage.name, "running")
    began, before = time.perf_counter(), record.written(stage)
    try:
        status = run(with_config_dir(stage.words(), config_dir))
    except KeyboardInterrupt:
        record.set(stage.name, "interrupted", seconds=time.perf_counter() - began)
        record.end("interrupted")
        raise
    seconds = time.perf_counter() - began
    if status == 0:
        record.set(stage.name, FINISHED, seconds=seconds)
        return None
    how = "interrupted" if status == INTERRUPTED else "failed"
    error = record.own_error(stage.name) or f"exit status {status}"
    record.set(stage.name, how, seconds=seconds, error=error)
    if status == 1 and record.written(stage) != before and (refusal := record.refusal(stage)) is not None:
        return refusal
    record.end(how)
    killed = " (killed: out of memory, perhaps)" if status == 128 + 9 else ""
    raise StageFailed(
        f"stage {stage.name} {how}, status {status}{killed}: what it said is above; when that is mended, the same "
        f"command goes on there: {same}",
        exit_status=status,
    )


def _refused(
    config: PipelineConfig,
    planned: Sequence[Planned],
    record: PipelineRecord,
    refusals: Sequence[Refusal],
    overrides: list[str],
    config_dir: str | None,
) -> str:
    """What is there, what was refused by which number, and the commands that would go on from here."""
    done = [stage["name"] for stage in record.content["stages"] if stage["status"] == FINISHED]
    lines = [f"finished: {', '.join(done)}"]
    for refusal in refusals:
        lines += [refusal.said(), f"the model itself is finished: {refusal.model()}"]
        for remedy in refusal.remedies(planned):
            changed = with_remedy(overrides, config, refusal.stage.name, remedy)
            if changed is not None:
                again = typed(changed, config_dir, place_of(record.folder, config))
                lines.append(f"{remedy.what}; finished stages are kept: {again}")
    return "\n".join(lines)


def shown(folder: Path) -> Path:
    """A folder as a user would type it here: without what lies above the one we are in. Stages are told so too, so that
    a tree of outputs may be moved."""
    whole = Path(os.path.abspath(folder))
    return whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole
