"""The records that a card is made of: run.json of the run that is published, of other runs, and export.json of its
variants.

    found = read_records(PublishConfig(run="multirun/helpsteer2/default"))
    found.run.value("metrics", "after", "accuracy"), found.seeds, found.arms
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.durable import read_json
from kdlab.exporting.record import TORCH
from kdlab.training.manifest import DONE, SCHEMA
from kdlab.training.options import binding

if TYPE_CHECKING:
    from kdlab.publishing.recipe import PublishConfig

ENDED = ("finished", "failed")
"""Of an export that is through with all its variants; it has failed where one of them is not good."""
REPEATS = ("seed", "dataset.fold", "dataset.split_seed")
"""Options in which the runs of one arm differ."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a job has written down in `folder`."""

    folder: Path
    record: dict[str, Any]

    def value(self, *keys: str) -> Any:
        """What lies at `keys`; None where the record does not have it."""
        found: Any = self.record
        for key in keys:
            if not isinstance(found, Mapping) or key not in found:
                return None
            found = found[key]
        return found

    @property
    def taught(self) -> bool:
        """Whether a teacher's predictions or states entered what this run was trained by: one may be there to lend its
        weights, or to be measured, alone."""
        config = self.record["config"]
        if config["teacher"]["source"] == "none":
            return False
        loss = config["loss"]
        ends = [loss["hard_weight"], (loss.get("hard_weight_anneal") or {}).get("to", 1)]
        return min(ends) < 1 or any((config.get("inner") or {}).values())

    def number(self, *keys: str) -> float | None:
        found = self.value(*keys)
        return found if isinstance(found, int | float) and not isinstance(found, bool) else None

    def text(self, *keys: str) -> str:
        found = self.value(*keys)
        return "" if found is None else str(found)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A form of the model that `kdlab export` made: what it measured, and the folder where it lies (None: nowhere)."""

    told: Told
    folder: Path | None

    @property
    def name(self) -> str:
        return self.told.text("name")

    @property
    def is_good(self) -> bool:
        return self.told.text("status") == "good"


@dataclass(frozen=True, kw_only=True)
class Records:
    """`seeds` are the runs of the published run's own arm, it first: alike but for seed and fold. `arms` are the other
    runs, grouped so. `original` is what `kdlab export` measured of the model itself."""

    run: Told
    seeds: list[Told]
    arms: list[list[Told]] = field(default_factory=list)
    export: Told | None = None
    original: Variant | None = None
    variants: list[Variant] = field(default_factory=list)

    @property
    def everything(self) -> list[Told]:
        return [*self.seeds, *(run for arm in self.arms for run in arm)]


def read_records(config: PublishConfig) -> Records:
    """Raises FileNotFoundError or ValueError, naming the option, for a run that is not there or not finished, or an
    export of another model."""
    assert config.run is not None, "the rules of the options refuse it"
    run = read_run("run", config.run)
    others = [read_run("extra_runs", path) for path in config.extra_runs]
    if any(other.folder.resolve() == run.folder.resolve() for other in others):
        raise ValueError(f"extra_runs={config.extra_runs}: has the run of run={config.run} too; drop it there")
    arms: dict[tuple[Any, ...], list[Told]] = {_arm(run): [run]}
    for other in others:
        arms.setdefault(_arm(other), []).append(other)
    seeds, *rest = arms.values()
    export, original, variants = None, None, list[Variant]()
    if config.export is not None:
        export = _read_export(config.export, run)
        found = [_variant(export, entry) for entry in export.record["variants"]]
        original = next((variant for variant in found if variant.name == TORCH), None)
        variants = [variant for variant in found if variant is not original]
    return Records(run=run, seeds=seeds, arms=rest, export=export, original=original, variants=variants)


def read_run(option: str, path: str) -> Told:
    """The record of a finished `kdlab train`."""
    folder = Path(path).expanduser()
    folder = folder.parent if folder.name == "run.json" else folder
    if not folder.is_dir():
        raise FileNotFoundError(f"{option}={path}: no such folder; give one that `kdlab train` wrote")
    record = read_json(folder / "run.json")
    if not isinstance(record, dict):
        if (folder.parent / "run.json").is_file():
            raise FileNotFoundError(f"{option}={path}: has no run.json; the run is {option}={folder.parent}")
        raise FileNotFoundError(f"{option}={path}: has no run.json that can be read; give what `kdlab train` wrote")
    if record.get("schema") != SCHEMA or record.get("verb") != "train":
        raise ValueError(f"{option}={path}: run.json is no record of `kdlab train` of schema {SCHEMA}")
    if record.get("status") not in DONE:
        raise ValueError(f"{option}={path}: the run is {record.get('status')}, not finished; finish it first")
    return Told(folder=folder, record=record)


def differing(runs: Sequence[Told]) -> list[str]:
    """The options in which runs of one arm differ, as typed."""
    flat = [binding(run.record["config"]) for run in runs]
    names = dict.fromkeys(name for one in flat for name in one)
    return [name for name in names if any(one.get(name) != flat[0].get(name) for one in flat)]


def _arm(run: Told) -> tuple[Any, ...]:
    """What is the same for all runs of an arm. Of a teacher that each fold has its own of, the fold is left out."""
    flat = {name: value for name, value in binding(run.record["config"]).items() if name not in REPEATS}
    if run.value("config", "dataset", "fold") is not None and flat.get("teacher.path"):
        flat["teacher.path"] = re.sub(r"fold[=_-]?\d+", "fold", str(flat["teacher.path"]))
    return tuple(sorted((name, repr(value)) for name, value in flat.items()))


def _read_export(path: str, run: Told) -> Told:
    folder = Path(path).expanduser()
    folder = folder.parent if folder.name == "export.json" else folder
    record = read_json(folder / "export.json")
    if not isinstance(record, dict):
        raise FileNotFoundError(f"export={path}: has no export.json that can be read; give what `kdlab export` wrote")
    if record.get("status") not in ENDED:
        raise ValueError(f"export={path}: the export is {record.get('status')}; finish it first")
    source = Path(str(record["source"]).removeprefix("folder ")).expanduser()
    if source.resolve() not in ((run.folder / name).resolve() for name in ("model", "adapter")):
        raise ValueError(f"export={path}: is of {record['source']}, not of the model of run={run.folder}")
    return Told(folder=folder, record=record)


def _variant(export: Told, entry: dict[str, Any]) -> Variant:
    folder = Path(str(entry["folder"])).expanduser() if entry.get("folder") else None
    if folder is not None and not folder.is_absolute():
        folder = next((place for place in (export.folder / folder, folder) if place.is_dir()), None)
    return Variant(told=Told(folder=export.folder, record=entry), folder=folder)
