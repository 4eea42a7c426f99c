"""What `kdlab pipeline` wrote: its stages, and which runs are stages of which pipeline."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from kdlab.reporting.comparison import labels
from kdlab.reporting.markup import Html, fold, join, section, table, tag
from kdlab.reporting.numbers import NONE, duration
from kdlab.reporting.runs import Run

PIPELINE = "pipeline.json"
PAGE = "report.html"
ABOVE = 3
"""How many folders above a run its pipeline.json is looked for."""
HEAD = ("stage", "verb", "status", "time", "record", "page")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage: `folder` is where it wrote, `record` the file that says how it went (None: there is none yet)."""

    name: str
    verb: str
    status: str
    seconds: float | None
    error: str
    options: list[str]
    folder: Path
    record: Path | None


def stages(pipeline: Run) -> list[Stage]:
    """The stages that a pipeline.json tells of, in their order; what cannot be one is left out."""
    listed = pipeline.value("stages")
    found = []
    for entry in listed if isinstance(listed, list) else []:
        one = Run(folder=pipeline.folder, record=entry if isinstance(entry, dict) else {})
        if not one.name:
            continue
        folder = pipeline.folder / (one.text("folder") or one.name)
        record = pipeline.folder / one.text("record") if one.text("record") else None
        options = one.value("options")
        found.append(
            Stage(
                name=one.name,
                verb=one.text("verb"),
                status={"off": "left out"}.get(one.text("status"), one.text("status").replace("_", " ")),
                seconds=one.number("seconds"),
                error=one.text("error"),
                options=[str(option) for option in options] if isinstance(options, list) else [],
                folder=folder,
                record=record if record is not None and record.is_file() else None,
            )
        )
    return found


def staged(records: Sequence[Run], pipelines: Sequence[Run]) -> list[Run]:
    """The records, each that lies in a pipeline's folder told so: its stage is its folder there, after the pipeline's
    name where there are pipelines of several names."""
    known = {pipeline.folder.resolve(): pipeline for pipeline in pipelines}
    several = len({pipeline.name for pipeline in pipelines}) > 1
    found = []
    for record in records:
        above = [place for place in list(record.folder.resolve().parents)[:ABOVE] if place in known]
        if above:
            stage = record.folder.resolve().relative_to(above[0]).as_posix()
            pipeline = known[above[0]]
            stage = f"{pipeline.name}: {stage}" if several else stage
            record = dataclasses.replace(record, pipeline=pipeline, stage=stage)
        found.append(record)
    return found


def files_above(files: Sequence[Path]) -> list[Path]:
    """The pipeline.json of the pipelines that these files belong to, each once."""
    places = {place: None for file in files for place in list(file.resolve().parents)[: ABOVE + 1]}
    return [place / PIPELINE for place in places if (place / PIPELINE).is_file()]


def stage_cells(pipelines: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """The head and rows of a table of pipelines, a column a stage; of one pipeline a row a stage."""
    if len(pipelines) == 1:
        rows = [
            [stage.name, stage.verb, _status(stage), duration(stage.seconds), _within(stage, pipelines[0])]
            for stage in stages(pipelines[0])
        ]
        return [*HEAD[:5]], rows
    names = list(dict.fromkeys(stage.name for pipeline in pipelines for stage in stages(pipeline)))
    rows = []
    for pipeline, label in zip(pipelines, labels(pipelines), strict=True):
        found = {stage.name: _status(stage) for stage in stages(pipeline)}
        rows.append([label, pipeline.status, *(found.get(name, NONE) for name in names)])
    return ["pipeline", "state", *names], rows


def told(pipelines: Sequence[Run], base: Path | None) -> Html | None:
    """The stages of every pipeline, with links to what they wrote, as seen from the folder `base` of the page."""
    if not pipelines:
        return None
    if len(pipelines) == 1:
        return section(f"Pipeline {pipelines[0].name}", _stages(pipelines[0], base))
    head, rows = stage_cells(pipelines)
    each = [
        fold(f"{label}: {pipeline.status}", _stages(pipeline, base))
        for pipeline, label in zip(pipelines, labels(pipelines), strict=True)
    ]
    return section(f"{len(pipelines)} pipelines", table([*head], [[*row] for row in rows]), join(each))


def _stages(pipeline: Run, base: Path | None) -> Html:
    rows: list[list[str | Html]] = []
    for stage in stages(pipeline):
        page = stage.folder / PAGE
        rows.append(
            [
                stage.name,
                stage.verb,
                _status(stage),
                duration(stage.seconds),
                _link(stage.record, base) if stage.record else NONE,
                _link(page, base) if page.is_file() else NONE,
            ]
        )
    return table([*HEAD], rows)


def _within(stage: Stage, pipeline: Run) -> str:
    """Where its record lies, as seen from the pipeline's folder."""
    if stage.record is None:
        return NONE
    inside = stage.record.is_relative_to(pipeline.folder)
    return str(stage.record.relative_to(pipeline.folder) if inside else stage.record)


def _status(stage: Stage) -> str:
    return f"{stage.status}: {stage.error}" if stage.error else stage.status


def _link(file: Path, base: Path | None) -> str | Html:
    """A link that is good as long as the page and the file are moved together."""
    if base is None:
        return file.name
    try:
        path = os.path.relpath(file.resolve(), base.resolve())
    except ValueError:  # another drive
        return file.name
    return tag("a", file.name, href=quote(Path(path).as_posix()))
