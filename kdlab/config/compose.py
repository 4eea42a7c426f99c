"""Hydra, held in one place: where the option files are, and composing them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

import kdlab.config.folder  # noqa: F401  registers the resolver that conf/train.yaml uses
from kdlab.config.mistakes import ConfigError
from kdlab.config.options import POLYMORPHIC, PRESETS, ROOTS, Section, conf_dir, group_files, hints
from kdlab.config.schema import composed_from, register


class Composer:
    """Composes the config of one verb, from the shipped option files and those of `config_dir`."""

    def __init__(self, verb: str, config_dir: str | None = None) -> None:
        register()
        search_path = create_config_search_path(str(conf_dir()))
        if config_dir is not None:
            folder = Path(config_dir).expanduser().absolute()
            if not folder.is_dir():
                raise ConfigError(f"--config-dir {config_dir}: no such folder")
            search_path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
        self.folders = [conf_dir(), *([] if config_dir is None else [folder])]
        self.verb = verb
        self.loader = ConfigLoaderImpl(config_search_path=search_path)
        self.hydra = Hydra(task_name=verb, config_loader=self.loader)

        self._groups: dict[str, list[str]] = {}
        self._kinds: dict[tuple[str, ...], dict[str, Section]] = {}

    def groups(self) -> dict[str, list[str]]:
        """Every group of the verb with its options, looked up once."""
        known = {*hints(ROOTS[self.verb]), *PRESETS[self.verb]}
        for group in () if self._groups else sorted(known & set(self.loader.list_groups(""))):
            options = [o for o in self.loader.get_group_options(group) if not o.endswith("_schema")]
            if group in PRESETS[self.verb]:
                options = group_files(*self.folders, verb=self.verb).get(group, [])
            if options:
                self._groups[group] = options
        return self._groups

    def other_verb(self, group: str, option: str) -> str | None:
        """The verb that has this preset, where it is not ours."""
        if group not in PRESETS[self.verb] or option in self.groups()[group]:
            return None
        other = "train" if self.verb == "pipeline" else "pipeline"
        return other if option in group_files(*self.folders, verb=other).get(group, []) else None

    def kinds(self, choices: Sequence[str]) -> dict[str, Section]:
        """The type of each polymorphic group where only these options of groups are chosen."""
        key = tuple(choices)
        if key not in self._kinds:
            base = self.compose(choices)
            kinds = {group: next(iter(table.values())) for group, table in POLYMORPHIC.items()}
            for group, table in POLYMORPHIC.items():
                if group in base and not OmegaConf.is_missing(base, group):
                    held = OmegaConf.get_type(base, group)
                    kinds[group] = (held and composed_from(held, table)) or kinds[group]
            self._kinds[key] = kinds
        return self._kinds[key]

    def compose(self, overrides: Iterable[str], *, sweep: bool = False) -> DictConfig:
        """The config with its `hydra` node. With `sweep`, overrides of several values are left out."""
        mode = RunMode.MULTIRUN if sweep else RunMode.RUN
        return self.hydra.compose_config(
            config_name=self.verb, overrides=list(overrides), run_mode=mode, with_log_configuration=False
        )


@contextmanager
def hydra_node_known(config: DictConfig) -> Iterator[None]:
    """Within, `${hydra:...}` resolves as it does in a job."""
    holder = HydraConfig.instance()
    before = holder.cfg
    holder.set_config(config)
    try:
        yield
    finally:
        holder.cfg = before
