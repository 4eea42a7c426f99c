"""Find and read runs: `run.json` and the `metrics.csv` beside it, finished or not.

runs = [read(file) for file in find(["multirun/quickstart"])]
"""

from __future__ import annotations

import csv
import glob
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = 1
_TEXT_COLUMNS = {"phase"}
_NEEDED = ("schema", "status", "name", "config")

Point = dict[str, Any]
"""One line of metrics.csv: `phase` is text, the rest floats, None where the column is empty."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run as its files tell it. `notes` say what could not be read. `pipeline` is the record of the pipeline that
    it is a stage of, `stage` what it is called there; `meant` are options as they are compared with those of other
    runs, where that is not as they were typed."""

    folder: Path
    record: dict[str, Any]
    points: list[Point] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pipeline: Run | None = None
    stage: str = ""
    meant: dict[str, str] = field(default_factory=dict)

    def value(self, *keys: str) -> Any:
        """What `record[keys[0]][keys[1]]...` holds, or None where the run has not written it (yet)."""
        found: Any = self.record
        for key in keys:
            if not isinstance(found, dict) or key not in found:
                return None
            found = found[key]
        return found

    def number(self, *keys: str) -> float | None:
        """The number at `keys`, or None where there is none."""
        found = self.value(*keys)
        return found if isinstance(found, int | float) and not isinstance(found, bool) else None

    def text(self, *keys: str) -> str:
        """The text at `keys`, "" where there is none."""
        found = self.value(*keys)
        return "" if found is None else str(found)

    @property
    def name(self) -> str:
        return self.text("name")

    @property
    def title(self) -> str:
        """What the run is called beside others: its stage of a pipeline, else its name."""
        return self.stage or self.name

    @property
    def overrides(self) -> list[str]:
        found = self.value("overrides")
        return [str(override) for override in found] if isinstance(found, list) else []

    @property
    def finished(self) -> bool:
        return self.text("status") in ("finished", "stopped_early")

    @property
    def decides(self) -> bool:
        """Whether the models are classifiers (or predict a number): they decide about whole texts and write none."""
        found = (self.value("data", "classes"), self.value("config", "dataset", "labels"))
        return any(part is not None for part in found)

    @property
    def status(self) -> str:
        """In a word or two: finished, stopped early, failed, not finished."""
        return self.text("status").replace("_", " ") if self.finished or self.failed else "not finished"

    @property
    def failed(self) -> bool:
        return self.text("status") == "failed"

    @property
    def state(self) -> str:
        """`status` with what explains it: why it failed, or how far it got."""
        if self.failed:
            return f"failed: {self.text('error') or 'no reason given'}"
        if self.finished:
            return self.status
        steps = [point["step"] for point in self.points if point["step"] is not None]
        return f"not finished (last step written: {int(max(steps))})" if steps else "not finished (no step written yet)"

    def curve(self, column: str, *, phase: str) -> tuple[list[float], list[float]]:
        """Steps and values of `column` where it was written."""
        at = [(p["step"], p.get(column)) for p in self.points if p["phase"] == phase and p["step"] is not None]
        known = [(step, value) for step, value in at if value is not None]
        return [step for step, _ in known], [value for _, value in known]


def find(paths: Sequence[str | Path], names: Sequence[str] = ("run.json",)) -> list[Path]:
    """The run files (those with one of `names`) under files, folders and globs, each once, in the order given.

    Raises FileNotFoundError where a path holds none.
    """

    def under(folder: Path) -> list[Path]:
        return sorted(file for name in names for file in folder.rglob(name))

    found: dict[Path, None] = {}
    for given in paths:
        path = Path(given)
        if path.is_file():
            files = [path]
        elif path.is_dir():
            files = under(path)
        else:
            matches = [Path(match) for match in sorted(glob.glob(str(given), recursive=True))]
            if not matches:
                raise FileNotFoundError(f"{given}: no such file or folder; give what `kdlab train` wrote")
            files = [file for match in matches for file in ([match] if match.is_file() else under(match))]
            files = sorted(file for file in files if file.name in names)
        if not files:
            raise FileNotFoundError(f"{given}: no {' or '.join(names)} in it; give a folder that `kdlab train` wrote")
        found |= {file.resolve(): None for file in files}
    return list(found)


def read(file: Path) -> Run:
    """Read one `run.json` and the metrics beside it. Raises ValueError, in one line, where it is not one of ours."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file}: not readable as JSON ({error})") from error
    if not isinstance(record, dict) or any(key not in record for key in _NEEDED):
        raise ValueError(f"{file}: not a run of kdlab (it needs {', '.join(_NEEDED)})")
    if record["schema"] != SCHEMA:
        raise ValueError(f"{file}: schema {record['schema']}, but this kdlab reads schema {SCHEMA}; use its version")
    points: list[Point] = []
    notes = []
    files = record.get("files")
    metrics = file.parent / str(files["metrics"] if isinstance(files, dict) and "metrics" in files else "metrics.csv")
    if metrics.is_file():
        points, broken = _points(metrics)
        if broken:
            notes.append(f"{metrics.name}: {broken} unreadable lines left out")
    else:
        notes.append(f"{metrics.name} is missing: no curves")
    return Run(folder=file.parent, record=record, points=points, notes=notes)


def _points(file: Path) -> tuple[list[Point], int]:
    """The lines of a metrics file and how many could not be read (a run in progress may have half a last line)."""
    points: list[Point] = []
    broken = 0
    with file.open(encoding="utf-8", errors="replace", newline="") as stream:
        for line in csv.DictReader(stream, strict=False):
            try:
                points.append(_point(line))
            except (ValueError, TypeError):
                broken += 1
    return points, broken


def _point(line: dict[str, str]) -> Point:
    missing = {"step", "phase"} - line.keys()
    if missing or None in line.values() or None in line:
        raise ValueError("a line of another length than the header")
    return {
        column: text if column in _TEXT_COLUMNS else (float(text) if text else None) for column, text in line.items()
    }
