"""What Hydra, OmegaConf and our own dataclasses refuse, in words that name the option as typed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException
from yaml import YAMLError

from kdlab.config.compose import Composer
from kdlab.config.mistakes import ConfigError, listing, suggestion
from kdlab.config.options import ROOTS, Section, hints, section_of
from kdlab.config.overrides import diagnose, typed_as

FOREIGN = (HydraException, OmegaConfBaseException, YAMLError, ValueError)
"""What Hydra and its parsers raise for a mistake in an option file or an override."""


def explained(composer: Composer, lines: list[str], error: Exception, *, sweep: bool = False) -> ConfigError:
    """What Hydra or OmegaConf refused, in our words where an override is at fault, else in theirs."""
    try:
        diagnose(composer, lines, sweep=sweep)
    except ConfigError as ours:
        return ours
    except FOREIGN as theirs:
        return ConfigError(plain(theirs))
    return ConfigError(plain(error))


def in_their_words(message: str, overrides: Sequence[str]) -> str:
    """A message that begins `loss.temperature=-1.0:` with the option as typed: `loss.temperature=-1:`."""
    option = re.match(r"([\w.]+)=(.*?):(?= )", message)
    key = option[1] if option else ""
    if key.startswith("anneal."):  # an anneal does not know what it moves
        typed = [line.lstrip("+").partition("=")[0] for line in overrides]
        key = next((name for name in reversed(typed) if name.endswith(key)), key)
    told = typed_as(key, overrides) if option else None
    return told + message[option.end() - 1 :] if option and told else message


def unset(key: str, groups: dict[str, list[str]]) -> str:
    """The message for an option that must be given."""
    group = key.split(".")[0]
    if group == key:
        return f"{key} is not set: write {key}=<option>\nThe options: {listing(groups.get(group, []))}"
    others = f", or choose another {group}=<option>: {listing(groups[group])}" if group in groups else ""
    return f"{key} is not set: write {key}=<value>{others}"


def dangling(error: InterpolationResolutionError, verb: str, config: DictConfig, overrides: Sequence[str]) -> str:
    """The message for a `${...}` that leads nowhere."""
    key = error.full_key or ""
    node = OmegaConf.to_container(config, resolve=False)
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    told = typed_as(key, overrides) or f"{key}={node}"
    missing = re.search(r"Interpolation key '(.*)' not found", str(error))
    if missing is None:
        return f"{told}: cannot be resolved: {str(error).splitlines()[0]}"
    return f"{told}: nothing is called {missing[1]}\n{suggestion(missing[1], flat(ROOTS[verb]), what='Options')}"


def flat(section: Section, prefix: str = "") -> Iterable[str]:
    """The full names of all options below a section."""
    for name, hint in hints(section).items():
        inner = section_of(hint)
        yield from flat(inner, f"{prefix}{name}.") if inner else [f"{prefix}{name}"]


def plain(error: BaseException) -> str:
    """Hydra's and OmegaConf's own words, without what helps only their authors."""
    noise = (
        "full_key:",
        "reference_type=",
        "object_type=",
        "To append to your config",
        "Config search path",
        "See http",
    )
    lines: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        for line in str(cause).splitlines():
            words = line.strip()
            if words and not words.startswith(noise) and not words.startswith("provider=") and words not in lines:
                lines.append(words)
        cause = cause.__cause__
    return "\n".join(lines[:5]) or type(error).__name__
