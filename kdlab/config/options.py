"""Which options there are, read off the dataclasses and the folder of option files. Hydra is not needed to ask."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from kdlab.answering.recipe import EvaluateConfig, GenerateConfig
from kdlab.caching.recipe import CacheConfig
from kdlab.classifying.recipe import PrepareConfig
from kdlab.exporting.recipe import ExportConfig
from kdlab.losses import ALL_LOSSES
from kdlab.pipelines.recipe import PipelineConfig
from kdlab.publishing.recipe import PublishConfig
from kdlab.teachers.codecs import CODECS
from kdlab.training.optimizers import OPTIMIZERS
from kdlab.training.recipe import TrainConfig

ROOTS: dict[str, type[Any]] = {
    "train": TrainConfig,
    "cache": CacheConfig,
    "generate": GenerateConfig,
    "evaluate": EvaluateConfig,
    "prepare": PrepareConfig,
    "export": ExportConfig,
    "publish": PublishConfig,
    "pipeline": PipelineConfig,
}
"""What each verb is told."""

PRESETS: dict[str, tuple[str, ...]] = {
    "train": ("experiment",),
    "cache": ("experiment",),
    "generate": (),
    "evaluate": (),
    "prepare": (),
    "export": (),
    "publish": (),
    "pipeline": ("experiment",),
}
"""Groups of a verb that are diffs over the others."""

POLYMORPHIC: dict[str, dict[str, type[Any]]] = {"loss": ALL_LOSSES, "optimizer": OPTIMIZERS, "codec": CODECS}
"""Groups whose options are of different types: their option files name `<option>_schema`."""

Section = type[Any]
"""A dataclass of options."""


def hints(section: Section) -> dict[str, Any]:
    """The options of a section with their types, `X | None` spelt out."""
    names = {field.name for field in fields(section)}
    return {name: hint for name, hint in get_type_hints(section).items() if name in names}


def knows(verb: str, option: str) -> bool:
    """Whether a verb has an option or group of that name, by its first word."""
    first = option.split(".")[0]
    return first in hints(ROOTS[verb]) or first in PRESETS[verb]


def bare(hint: Any) -> tuple[Any, bool]:
    """The type without `| None`, and whether None is allowed."""
    if get_origin(hint) in (Union, types.UnionType):
        rest = [arg for arg in get_args(hint) if arg is not type(None)]
        return (rest[0] if len(rest) == 1 else Any), len(rest) < len(get_args(hint))
    return hint, hint is Any


def section_of(hint: Any) -> Section | None:
    """The dataclass behind a type, if there is one."""
    kind, _ = bare(hint)
    return kind if isinstance(kind, type) and is_dataclass(kind) else None


def is_open(hint: Any) -> bool:
    """Whether a type is a dictionary with any keys, such as `student.architecture`."""
    return get_origin(bare(hint)[0]) is dict


def optional_sections(section: Section) -> Iterator[str]:
    """The options of a section that are themselves a section, or an open dictionary, or None."""
    for name, hint in hints(section).items():
        if bare(hint)[1] and (section_of(hint) or is_open(hint)):
            yield name


def default(section: Section, name: str) -> Any:
    """The default of an option; the string "???" where it must be given."""
    field = next(field for field in fields(section) if field.name == name)
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else "???"


def conf_dir() -> Path:
    """The folder of option files: inside an installed package, else at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise FileNotFoundError(f"conf/train.yaml is neither in {package} nor beside it: the installation is broken")


def group_files(*folders: Path, verb: str | None = None) -> dict[str, list[str]]:
    """The options of every group in folders of option files; of presets those alone that are for `verb`."""
    found: dict[str, set[str]] = {}
    for file in (file for folder in folders for file in folder.glob("*/*.yaml")):
        if verb is None or file.parent.name not in PRESETS[verb] or is_pipeline(file) == (verb == "pipeline"):
            found.setdefault(file.parent.name, set()).add(file.stem)
    return {group: sorted(found[group]) for group in sorted(found)}


def is_pipeline(preset: Path) -> bool:
    """Whether a preset lists stages, and so is one of `kdlab pipeline`."""
    return re.search(r"^stages\s*:", preset.read_text(encoding="utf-8"), re.MULTILINE) is not None
