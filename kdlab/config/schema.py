"""The dataclasses as Hydra and OmegaConf need them."""

from __future__ import annotations

from dataclasses import field, make_dataclass
from functools import cache
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from kdlab.config.options import POLYMORPHIC, ROOTS, Section, hints, optional_sections, section_of


def composing(section: Section) -> Section:
    """The section as Hydra needs it: optional sections are untyped.

    OmegaConf 2.3 cannot set `a.b.c` where `a.b` is typed and None (it fails, or drops the value); as `Any` it can, and
    `strict` types it afterwards.
    """
    if section not in _composing:
        untyped = set(optional_sections(section))
        changed: list[tuple[str, Any, Any]] = [(name, Any, None) for name in untyped]
        for name, hint in hints(section).items():
            inner = section_of(hint)
            if inner is not None and name not in untyped:
                changed.append((name, composing(inner), field(default_factory=composing(inner))))
        made = make_dataclass(section.__name__, changed, bases=(section,), kw_only=True) if changed else section
        _composing[section] = made
    return _composing[section]


_composing: dict[Section, Section] = {}
"""One composing class for each section, so that a composed node tells its section."""


def composed_from(made: Section, table: dict[str, Section]) -> Section | None:
    """The section of `table` that a composed node's type was made from."""
    return next((section for section in table.values() if composing(section) is made), None)


def composing_root(root: Section) -> Section:
    """The root of a verb, its groups unset until an option is chosen: not every group has a valid default.

    A polymorphic group is untyped here: its option brings its type, and the base's would come back for its optional
    sections (`loss.temperature_anneal`).
    """
    kinds = {name: inner for name, hint in hints(root).items() if (inner := section_of(hint))}
    groups = [(name, Any if name in POLYMORPHIC else composing(kind), "???") for name, kind in kinds.items()]
    return make_dataclass(root.__name__, groups, bases=(root,), kw_only=True)


def strict(verb: str, kinds: dict[str, Section]) -> DictConfig:
    """The typed, empty config of a verb; `kinds` says which type each polymorphic group has. Made once: merging into it
    copies it."""
    key = (verb, *sorted(kinds.items(), key=lambda kind: kind[0]))
    if key not in _strict:
        _strict[key] = _empty(verb, kinds)
    return _strict[key]


_strict: dict[tuple[Any, ...], DictConfig] = {}


def _empty(verb: str, kinds: dict[str, Section]) -> DictConfig:
    root = ROOTS[verb]
    inner = {name: section_of(hint) for name, hint in hints(root).items()}
    unset = [(name, hints(root)[name], "???") for name, section in inner.items() if section]
    config = OmegaConf.structured(make_dataclass(root.__name__, unset, bases=(root,), kw_only=True))
    for name, section in inner.items():
        if section is not None:
            config[name] = OmegaConf.structured(kinds.get(name, section))
    assert isinstance(config, DictConfig)
    return config


@cache
def register() -> None:
    """Tell Hydra the schemas, once."""
    store = ConfigStore.instance()
    for verb, root in ROOTS.items():
        store.store(name=f"{verb}_schema", node=composing_root(root))
    for group, table in POLYMORPHIC.items():
        for name, section in table.items():
            store.store(group=group, name=f"{name}_schema", node=composing(section))
