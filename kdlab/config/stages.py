"""The stages of a pipeline, composed and typed before the first of them starts.

What they read of each other is not there yet: a rule that fails over the folder of an earlier stage is put off until
the stage starts, which checks everything again.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from kdlab.config.compose import Composer, hydra_node_known
from kdlab.config.explaining import FOREIGN, explained, in_their_words
from kdlab.config.loading import output_dir, typed
from kdlab.config.mistakes import ConfigError
from kdlab.config.options import knows
from kdlab.config.overrides import with_plus
from kdlab.config.rules import RULES
from kdlab.pipelines.job import shown
from kdlab.pipelines.planning import plan
from kdlab.pipelines.recipe import PipelineConfig


def check_stages(config: PipelineConfig) -> None:
    """Refuse a stage whose options are mistyped, of the wrong type, or against a rule.

    Raises ConfigError, in one line that names the stage.
    """
    config_dir = config_dir_in_use()
    planned = [stage for stage in plan(config, shown(_folder(config)), knows=knows) if stage.enabled]
    for number, stage in enumerate(planned):
        earlier = tuple(str(before.folder) for before in planned[:number])
        try:
            check_stage(stage.verb, tuple(stage.options), earlier, config_dir)
        except ConfigError as error:
            lines = str(error).splitlines()
            raise ConfigError(f"stages.{stage.name} (kdlab {stage.verb}): {'; '.join(lines[:2])}") from error


@cache
def check_stage(verb: str, options: tuple[str, ...], earlier: tuple[str, ...], config_dir: str | None) -> None:
    """Compose and type one stage, once; `earlier` are the folders that it may read of. Raises ConfigError."""
    composer = _composer(verb, config_dir)
    lines = with_plus(verb, options)
    try:
        composed = composer.compose(lines)
        with hydra_node_known(composed):
            if composed.hydra.mode == RunMode.MULTIRUN:
                raise ConfigError("a stage is one job here: give -m and cluster= to the pipeline")
            root, _ = typed(verb, composed, lines, groups=composer.groups)
            try:
                RULES[verb](root)
            except (ValueError, FileNotFoundError) as error:
                if not any(folder in str(error) for folder in earlier):
                    raise ConfigError(in_their_words(str(error), lines)) from error
    except ConfigError:
        raise
    except FOREIGN as error:
        raise explained(composer, lines, error) from error


def config_dir_in_use() -> str | None:
    """The folder of --config-dir, as the job at hand was composed; None where there is none."""
    if not HydraConfig.initialized():
        return None
    sources = HydraConfig.get().runtime.config_sources
    return next((str(source.path) for source in sources if source.provider == "command-line"), None)


def _folder(config: PipelineConfig) -> Path:
    """Where the stages of the job at hand will be."""
    if not HydraConfig.initialized():
        return Path("multirun", config.name)
    node = HydraConfig.get()
    if not OmegaConf.is_missing(node.runtime, "output_dir"):
        return Path(node.runtime.output_dir)
    return output_dir(cast(DictConfig, HydraConfig.instance().cfg))


@cache
def _composer(verb: str, config_dir: str | None) -> Composer:
    """Made once; the job at hand keeps the name that it had."""
    runtime = JobRuntime.instance()
    name = runtime.get("name")
    composer = Composer(verb, config_dir)
    runtime.set("name", name)
    return composer
