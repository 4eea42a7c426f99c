"""From what the user typed to typed options: `load("train", ["experiment=smoke", "loss.temperature=2"])`.

Hydra composes the groups of `conf/`, the dataclasses type them, and everything that can be refused without loading a
model is refused here, in one message that names the option and the remedy. Importable without torch; Hydra is imported
when a config is composed, so that help and completion of names answer at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdlab.config.mistakes import ConfigError

if TYPE_CHECKING:
    from kdlab.config.loading import Loaded

__all__ = ["ConfigError", "load"]


def load(verb: str, overrides: Sequence[str] = (), *, config_dir: str | None = None) -> Loaded:
    """Compose, type and check the config of one job.

    Raises:
        ConfigError: with one message that names the option as typed and the remedy.
    """
    from kdlab.config.compose import Composer
    from kdlab.config.loading import load_with

    return load_with(Composer(verb, config_dir), overrides)
