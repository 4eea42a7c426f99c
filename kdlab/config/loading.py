"""Compose, type and check the config of a job, or of every job of a sweep, without loading a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from kdlab.config.compose import Composer, hydra_node_known
from kdlab.config.explaining import FOREIGN, dangling, explained, in_their_words, unset
from kdlab.config.mistakes import ConfigError, listing
from kdlab.config.options import POLYMORPHIC, ROOTS, hints
from kdlab.config.overrides import parse, with_plus
from kdlab.config.rules import RULES
from kdlab.config.schema import composed_from, strict


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A checked config: typed (as `options.ROOTS` has it), as a plain dict, as the overrides that make it, where its
    run belongs, what launches it ("basic": this process), and whether the options make it a sweep of one, as a
    `cluster` may."""

    config: Any
    resolved: dict[str, Any]
    overrides: list[str]
    output_dir: Path
    launcher: str
    is_sweep: bool


def load_with(composer: Composer, overrides: Sequence[str]) -> Loaded:
    """Compose and check the config of one job.

    Raises:
        ConfigError: with one message that names the option as typed and the remedy.
    """
    lines = with_plus(composer.verb, overrides)
    try:
        composed = composer.compose(lines)
        with hydra_node_known(composed):
            config, resolved = check(composer.verb, composed, lines, groups=composer.groups)
            return Loaded(
                config=config,
                resolved=resolved,
                overrides=lines,
                output_dir=output_dir(composed),
                is_sweep=composed.hydra.mode == RunMode.MULTIRUN,
                launcher=str(composed.hydra.runtime.choices["hydra/launcher"]),
            )
    except ConfigError:
        raise
    except FOREIGN as error:
        raise explained(composer, lines, error) from error


def output_dir(composed: DictConfig) -> Path:
    """Where Hydra will put the run."""
    if composed.hydra.mode == RunMode.MULTIRUN:
        return Path(composed.hydra.sweep.dir) / str(composed.hydra.sweep.subdir)
    return Path(composed.hydra.run.dir)


def is_sweep(composer: Composer, overrides: Sequence[str]) -> bool:
    """Whether options with several values are a sweep without -m, as a `cluster` may say."""
    if not any(parse(line).is_sweep_override() for line in overrides):
        return False
    lines = with_plus(composer.verb, overrides)
    try:
        return bool(composer.compose(lines, sweep=True).hydra.mode == RunMode.MULTIRUN)
    except FOREIGN as error:
        raise explained(composer, lines, error, sweep=True) from error


def sweep_jobs(composer: Composer, overrides: Sequence[str]) -> list[list[str]] | None:
    """The overrides of each job of a sweep; None where a sweeper of another kind chooses them as it goes."""
    lines = with_plus(composer.verb, overrides)
    try:
        sweeper = composer.compose(lines, sweep=True).hydra.sweeper
        if not str(sweeper._target_).endswith(".BasicSweeper"):
            return None
        every = [f"{key}={value}" for key, value in (sweeper.params or {}).items()] + lines
        parsed = OverridesParser.create(config_loader=composer.loader).parse_overrides(every)
        return [job for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]
    except FOREIGN as error:
        raise explained(composer, lines, error, sweep=True) from error


def check(
    verb: str, composed: DictConfig, overrides: Sequence[str], *, groups: Callable[[], dict[str, list[str]]] = dict
) -> tuple[Any, dict[str, Any]]:
    """Type a composed config and apply the rules of its verb: the typed object, and the same as a plain, resolved
    dict."""
    root, resolved = typed(verb, composed, overrides, groups=groups)
    try:
        RULES[verb](root)
    except ConfigError:
        raise
    except (ValueError, FileNotFoundError) as error:
        raise ConfigError(in_their_words(str(error), overrides)) from error
    return root, resolved


def typed(
    verb: str, composed: DictConfig, overrides: Sequence[str], *, groups: Callable[[], dict[str, list[str]]] = dict
) -> tuple[Any, dict[str, Any]]:
    """As `check`, without the rules: each option by itself, as its dataclass has it."""
    config = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    try:
        values = OmegaConf.to_container(config, resolve=True)
    except InterpolationResolutionError as error:
        raise ConfigError(dangling(error, verb, config, overrides)) from error
    merged = cast(DictConfig, OmegaConf.merge(strict(verb, kinds_of(verb, config)), OmegaConf.create(values)))
    for key in sorted(OmegaConf.missing_keys(merged)):
        raise ConfigError(unset(key, groups()))
    try:
        built = OmegaConf.to_object(merged)
        root = ROOTS[verb](**{field.name: getattr(built, field.name) for field in fields(ROOTS[verb])})
    except ConfigError:
        raise
    except (ValueError, FileNotFoundError) as error:
        raise ConfigError(in_their_words(str(error), overrides)) from error
    return root, cast(dict[str, Any], OmegaConf.to_container(merged))


def kinds_of(verb: str, config: DictConfig) -> dict[str, type[Any]]:
    """Which dataclass each polymorphic group holds."""
    kinds: dict[str, type[Any]] = {}
    for group, table in POLYMORPHIC.items():
        if group not in hints(ROOTS[verb]):
            continue
        held = None if OmegaConf.is_missing(config, group) else OmegaConf.get_type(config, group)
        kind = None if held is None else composed_from(held, table)
        if kind is None:
            raise ConfigError(f"{group} is not chosen: write {group}=<option>\nThe options: {listing(table)}")
        kinds[group] = kind
    return kinds
