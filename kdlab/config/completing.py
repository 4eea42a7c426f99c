"""What may come next on the command line: groups, their options, and the options inside them, nested."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from kdlab.config.options import (
    POLYMORPHIC,
    PRESETS,
    ROOTS,
    Section,
    bare,
    conf_dir,
    default,
    group_files,
    hints,
    is_open,
    section_of,
)


def candidates(verb: str, before: Sequence[str], word: str) -> list[str]:
    """The completions of `word`, after the words `before` it; whole words, such as `loss=forward_kl`.

    A completion that ends in `=` or `.` goes on. Values of a sweep are completed one by one: `loss=hard,re`.
    """
    plus = word[: len(word) - len(word.lstrip("+~"))]
    key, equals, value = word[len(plus) :].partition("=")
    found = group_files(*folders(before), verb=verb)
    groups = {k: v for k, v in found.items() if k in hints(ROOTS[verb]) or k in PRESETS[verb]}
    if equals:
        done, comma, last = value.rpartition(",")
        values = groups[key] if key in groups else values_of(verb, key, before)
        return [f"{plus}{key}={done}{comma}{v}" for v in values if v.startswith(last)]
    names = {*keys(verb, key, before), *(f"{group}=" for group in groups)}
    return sorted(f"{plus}{name}" for name in names if name.startswith(key))


def folders(before: Sequence[str]) -> Iterator[Path]:
    """The folders of option files: the shipped one, and that of `--config-dir`."""
    yield conf_dir()
    for flag, folder in pairwise(before):
        if flag in ("-c", "--config-dir") and Path(folder).expanduser().is_dir():
            yield Path(folder).expanduser()


def keys(verb: str, key: str, before: Sequence[str]) -> Iterator[str]:
    """The options one level below the dots already typed: `trainer.ch` gives `trainer.checkpoint.` and its like."""
    parts = key.split(".")[:-1]
    section = inside(verb, parts, before)
    prefix = "".join(f"{part}." for part in parts)
    for name, hint in hints(section).items() if section else ():
        nested = section_of(hint) or is_open(hint)
        yield f"{prefix}{name}{'.' if nested else '='}"


def inside(verb: str, parts: Sequence[str], before: Sequence[str]) -> Section | None:
    """The section that a dotted name leads to."""
    section: Section | None = ROOTS[verb]
    for depth, part in enumerate(parts):
        hint = hints(section).get(part) if section else None
        section = chosen_kind(verb, part, before) if depth == 0 and part in POLYMORPHIC else section_of(hint)
    return section


def chosen_kind(verb: str, group: str, before: Sequence[str]) -> Section | None:
    """The type of a group's options, as the words before choose it, by themselves or by an experiment."""
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from kdlab.config.compose import Composer

    table = POLYMORPHIC[group]
    for word in reversed(before):
        if word.startswith(f"{group}="):
            return table.get(word.partition("=")[2].split(",")[0])
    chosen = [word for word in before if word.startswith("experiment=") and "," not in word]
    try:
        held = OmegaConf.get_type(Composer(verb, str(list(folders(before))[-1])).compose(chosen), group)
    except (HydraException, OmegaConfBaseException):  # half-typed words must not disturb the prompt
        return None
    return next((kind for kind in table.values() if held is not None and issubclass(held, kind)), None)


def values_of(verb: str, key: str, before: Sequence[str]) -> list[str]:
    """The values worth offering: true and false, and the default."""
    *parts, name = key.split(".")
    section = inside(verb, parts, before)
    if section is None or name not in hints(section):
        return []
    kind: Any = bare(hints(section)[name])[0]
    if kind is bool:
        return ["true", "false"]
    value = default(section, name)
    return [f"{value}"] if isinstance(value, int | float | str) and value != "???" else []
