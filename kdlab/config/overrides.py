"""What the user typed, one override at a time: which one is wrong, and how it should read."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdlab.config.mistakes import ConfigError, listing, suggestion
from kdlab.config.options import ROOTS, Section, bare, hints, is_open, optional_sections, section_of
from kdlab.config.quoting import OPTIONS, as_list, with_items_quoted, with_path_quoted
from kdlab.config.schema import strict
from kdlab.pipelines.planning import quoted

if TYPE_CHECKING:
    from kdlab.config.compose import Composer


def parse(line: str) -> Override:
    """One override by Hydra's grammar; what needs no quotes besides are a path that is there, whatever signs it has,
    and options in a list."""
    try:
        return OverridesParser.create().parse_overrides([line])[0]
    except HydraException as error:
        for mended in (with_path_quoted(line), with_items_quoted(line)):
            if mended is not None:
                return parse(mended)
        if "=" not in line and not line.startswith("~"):
            raise ConfigError(f"{line}: not an option; write <option>=<value>, such as loss.temperature=2") from error
        key, _, value = line.partition("=")
        if OPTIONS.fullmatch(key):
            raise ConfigError(f"{line}: cannot be read; {key} is a list: write {as_list(key, value)}") from error
        raise ConfigError(
            f"{line}: cannot be read; quote the value: {shlex.quote(f'{key}={quoted(value)}')}"
        ) from error


def with_plus(verb: str, overrides: Sequence[str]) -> list[str]:
    """The overrides as Hydra takes them: options inside an optional section (`student.lora.r=4`) get the `++` that
    lets Hydra create the section. `+` and `++` before any other option are kept as typed."""
    lines = []
    for typed in overrides:
        override = parse(typed)
        line = str(override.input_line)
        inside = not override.is_delete() and inside_optional(ROOTS[verb], override.key_or_group.split("."))
        lines.append("++" + line.lstrip("+") if inside else line)
    return lines


def inside_optional(section: Section, parts: list[str]) -> bool:
    """Whether a key leads into a section or dictionary that may be None."""
    for part in parts[:-1]:
        if part in optional_sections(section):
            return True
        inner = section_of(hints(section).get(part))
        if inner is None:
            return False
        section = inner
    return False


def typed_as(key: str, overrides: Sequence[str]) -> str | None:
    """The override that the user typed for an option, if any."""
    for line in reversed(overrides):
        if line.lstrip("+").partition("=")[0] == key:
            return line.removeprefix("++")
    return None


def diagnose(composer: Composer, lines: Sequence[str], *, sweep: bool = False) -> None:
    """Raise a ConfigError for the first override that is wrong by itself; return where none is."""
    groups = composer.groups()
    parsed = [parse(line) for line in lines]
    chosen = [override for override in parsed if override.key_or_group in groups]
    for override in parsed:
        if override.is_sweep_override() and not sweep:
            raise ConfigError(f"{said(override)}: several values are a sweep: add -m, or quote a text with commas")
    for override in chosen:
        check_preset(composer, override)
        check_option(override, groups[override.key_or_group])
    kinds = composer.kinds([str(override.input_line) for override in chosen if not override.is_sweep_override()])
    check_stage_names(composer, parsed, [str(override.input_line) for override in chosen])
    for override in parsed:
        if override not in chosen and not override.key_or_group.startswith("hydra"):
            check_value(composer.verb, override, kinds, groups)


def check_stage_names(composer: Composer, parsed: Sequence[Override], chosen: list[str]) -> None:
    """Refuse an option of a stage that the pipeline has not."""
    asked = [override for override in parsed if override.key_or_group.startswith("stages.") and not override.is_add()]
    if composer.verb != "pipeline" or not asked:
        return
    stages = composer.compose(chosen).stages
    for override in asked:
        name = override.key_or_group.split(".")[1]
        if name not in stages:
            hint = suggestion(name, [str(stage) for stage in stages], what="The stages")
            raise ConfigError(f"{said(override)}: the pipeline has no stage {name}\n{hint}")


def said(override: Override) -> str:
    """The override as typed: without the `++` that `with_plus` adds."""
    return str(override.input_line).removeprefix("++")


def check_preset(composer: Composer, override: Override) -> None:
    """Refuse a preset of another verb."""
    for value in override.sweep_iterator() if override.is_sweep_override() else [override.value()]:
        other = composer.other_verb(override.key_or_group, str(value))
        if other is not None:
            is_one = "is a pipeline" if other == "pipeline" else "is no pipeline"
            raise ConfigError(
                f"{said(override)}: {value} {is_one}: write kdlab {other} {override.key_or_group}={value}"
            )


def check_option(override: Override, options: list[str]) -> None:
    """Refuse an option that its group does not have."""
    group = override.key_or_group
    if override.is_add():
        raise ConfigError(f"{said(override)}: write it without +: {said(override).lstrip('+')}")
    if override.is_delete():
        return
    if override.value() is None and group != "experiment":
        none = f"{group}=none" if "none" in options else f"one of {listing(options)}"
        raise ConfigError(f"{said(override)}: a group needs an option; write {none}")
    values = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
    for value in values:
        if value is not None and str(value) not in options:
            hint = suggestion(str(value), options, what=f"The options of {group}")
            raise ConfigError(f"{said(override)}: {group} has no option {value}\n{hint}")


def check_value(verb: str, override: Override, kinds: dict[str, Section], groups: dict[str, list[str]]) -> None:
    """Refuse an unknown option, a value of the wrong type, and `+` before an option that exists."""
    section: Section = ROOTS[verb]
    parts = override.key_or_group.split(".")
    hint: Any = None
    for depth, part in enumerate(parts):
        known = hints(section)
        if part not in known:
            where = ".".join(parts[:depth])
            names = set(known) if where else {*known, *groups}
            what = f"The options of {where}" if where else "Groups and options"
            unknown = ".".join(parts[: depth + 1])
            others = [] if where else [f"`kdlab {other}`" for other, root in ROOTS.items() if part in hints(root)]
            if others:
                raise ConfigError(f"{said(override)}: {part} is an option of {' and '.join(others)}, not of this verb")
            raise ConfigError(f"{said(override)}: unknown option {unknown}\n{suggestion(part, names, what=what)}")
        hint = known[part]
        rest = parts[depth + 1 :]
        if not rest or is_open(hint):
            hint = inside_named(override, hint, rest) if rest else hint
            break
        inner = kinds.get(part, section_of(hint)) if depth == 0 else section_of(hint)
        if inner is None:
            raise ConfigError(f"{said(override)}: {'.'.join(parts[: depth + 1])} is {words(hint)}, not a group")
        section = inner
    if override.is_add():
        raise ConfigError(f"{said(override)}: {'.'.join(parts)} exists; write it without +")
    if override.is_delete():
        if rest and is_open(known[part]):
            return
        key = ".".join(parts)
        null = f", or {key}=null" if bare(hint)[1] else ""
        raise ConfigError(f"{said(override)}: an option cannot be taken away; write {key}=<value>{null}")
    for value in override.sweep_iterator() if override.is_sweep_override() else [override.value()]:
        check_type(verb, override, parts, value, hint, kinds)


def inside_named(override: Override, hint: Any, rest: list[str]) -> Any:
    """The type of an option inside a dictionary of groups, such as stages.<name>.enabled; of any other dictionary what
    it was."""
    held = get_args(bare(hint)[0])
    section = section_of(held[1]) if held else None
    if section is None or len(rest) < 2:
        return hint
    if rest[1] not in hints(section):
        what = f"The options of {'.'.join(override.key_or_group.split('.')[:-1])}"
        raise ConfigError(
            f"{said(override)}: unknown option {rest[1]}\n{suggestion(rest[1], hints(section), what=what)}"
        )
    return hints(section)[rest[1]]


def check_type(
    verb: str, override: Override, parts: list[str], value: Any, hint: Any, kinds: dict[str, Section]
) -> None:
    """Refuse a value that the typed config refuses."""
    nested = value
    for part in reversed(parts):
        nested = {part: nested}
    try:
        OmegaConf.merge(strict(verb, kinds), OmegaConf.create(nested))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{said(override)}: {wrong_value('.'.join(parts), value, hint)}") from error


def wrong_value(key: str, value: Any, hint: Any) -> str:
    """Why a value does not fit its type, and what does."""
    section = section_of(hint)
    if section is None:
        texts = get_origin(bare(hint)[0]) is list and get_args(bare(hint)[0]) == (str,)
        listed = texts and isinstance(value, str) and (value or OPTIONS.fullmatch(key))
        remedy = f": write {as_list(key, value)}" if listed else ""
        return f"must be {words(hint)}{remedy}"
    unknown = [name for name in value if name not in hints(section)] if isinstance(value, dict) else []
    if unknown:
        return f"unknown option {unknown[0]}\n{suggestion(unknown[0], hints(section), what=f'The options of {key}')}"
    name, first = next(iter(hints(section).items()))
    fits = not isinstance(value, bool) and isinstance(
        value, (int, float) if bare(first)[0] is float else bare(first)[0]
    )
    told = f"{name}={value}" if fits else "<option>=<value>"
    return f"is a group; write {key}.{told}\nThe options of {key}: {listing(hints(section))}"


def words(hint: Any) -> str:
    """A type in plain words."""
    kind, none = bare(hint)
    if get_origin(kind) is list:
        text = f"a list of {words(get_args(kind)[0]).split(' ')[-1]}, such as [a,b]"
    else:
        text = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(kind, "a value")
    return f"{text}, or null" if none and kind is not Any else text
