"""Find and read all that kdlab writes: runs, evaluations, exports, prepared data and pipelines.

records = read_all(["multirun/helpsteer2"])
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdlab.reporting.evaluations import EVALUATION, Evaluation, is_evaluation, read_evaluation
from kdlab.reporting.exports import EXPORT
from kdlab.reporting.joining import joined
from kdlab.reporting.pipelines import PIPELINE, files_above, staged
from kdlab.reporting.runs import SCHEMA, Run, find, read

PREPARED = "prepare.json"
NAMES = ("run.json", EVALUATION, EXPORT, PREPARED, PIPELINE)


@dataclass(frozen=True, kw_only=True)
class Records:
    """What lies under some paths; `complaints` has a line for every file that could not be read."""

    runs: list[Run] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    exports: list[Run] = field(default_factory=list)
    prepared: list[Run] = field(default_factory=list)
    pipelines: list[Run] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not (self.runs or self.evaluations or self.exports or self.prepared or self.pipelines)


def read_all(paths: Sequence[str | Path]) -> Records:
    """All that is readable under `paths`. Runs and exports know the pipeline that they are a stage of, which may lie
    above the paths.

    Raises FileNotFoundError where a path holds nothing, ValueError where nothing could be read.
    """
    found = Records()
    files = find(paths, names=NAMES)
    for file in files:
        try:
            _sort(file, found)
        except (ValueError, OSError) as error:
            found.complaints.append(str(error))
    if found.empty:
        complaints = found.complaints
        more = f" (and {len(complaints) - 1} more files like it)" if len(complaints) > 1 else ""
        raise ValueError(complaints[0] + more)
    pipelines = found.pipelines + _above(files)
    return Records(
        runs=joined(staged(found.runs, pipelines)),
        evaluations=found.evaluations,
        exports=joined(staged(found.exports, pipelines)),
        prepared=staged(_different(found.prepared), pipelines),
        pipelines=found.pipelines,
        complaints=found.complaints,
    )


def _sort(file: Path, found: Records) -> None:
    """Read one file into its place."""
    if file.name in (EXPORT, PREPARED, PIPELINE):
        kind = {EXPORT: found.exports, PREPARED: found.prepared, PIPELINE: found.pipelines}
        record = read_record(file)
        if file.name == PREPARED:
            # What is prepared is told as the data of a run is.
            record.record["data"] = {name: record.record.get(name) for name in ("classes", "folds", "leakage")}
        kind[file.name].append(record)
    elif is_evaluation(file):
        found.evaluations.append(read_evaluation(file))
    else:
        found.runs.append(read(file))


def _different(prepared: Sequence[Run]) -> list[Run]:
    """What is prepared, once: the folds of a sweep all prepare the same."""
    seen: list[object] = []
    kept = []
    for one in prepared:
        if one.value("data") not in seen:
            seen.append(one.value("data"))
            kept.append(one)
    return kept


def _above(files: Sequence[Path]) -> list[Run]:
    """The pipelines above what was asked for; one that cannot be read is left out, as it was not asked for."""
    pipelines = []
    for file in files_above(files):
        if file not in files:
            try:
                pipelines.append(read_record(file))
            except (ValueError, OSError):
                continue
    return pipelines


def read_record(file: Path) -> Run:
    """Read a record that has no metrics beside it. Raises ValueError, in one line, where it is not one of ours."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file}: not readable as JSON ({error})") from error
    verb = file.stem
    if not isinstance(record, dict) or record.get("verb") != verb or "name" not in record:
        raise ValueError(f"{file}: not what `kdlab {verb}` writes")
    if record.get("schema") != SCHEMA:
        raise ValueError(
            f"{file}: schema {record.get('schema')}, but this kdlab reads schema {SCHEMA}; use its version"
        )
    return Run(folder=file.parent, record=record)
