"""Which options decide what a run computes, so that a checkpoint is only continued by the run that wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FREE = (
    "name",
    "cluster",
    "benchmark",
    "dataset.cache_dir",
    "trainer.checkpoint",
    "trainer.loggers",
    "trainer.progress",
    "trainer.threads",
    "trainer.workers",
)
"""Options, or groups of them, that may change between two starts of one run: they do not touch the weights."""


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"loss": {"temperature": 2}}` as `{"loss.temperature": 2}`, the way options are typed."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def binding(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a resolved config that must stay as they are while a run is continued."""
    return {
        name: value
        for name, value in flatten(config).items()
        if not any(name == free or name.startswith(f"{free}.") for free in FREE)
    }


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """`["optimizer.lr=0.1 (was 0.01)"]`: the options in which two flat configs differ, as typed."""
    names = [*now, *(name for name in was if name not in now)]
    return [
        f"{name}={now.get(name, 'not set')} (was {was.get(name, 'not set')})"
        for name in names
        if was.get(name, "not set") != now.get(name, "not set")
    ]


def refuse_changes(was: Mapping[str, Any], now: Mapping[str, Any], *, what: str, where: str) -> None:
    """Raise ValueError, naming the options, where two flat configs differ."""
    changed = differences(was, now)
    if changed:
        shown = ", ".join(changed[:4]) + (f" and {len(changed) - 4} more" if len(changed) > 4 else "")
        raise ValueError(
            f"{shown}: {what} in {where} was made with other options; "
            "use those again, give this run another name=, or delete that folder"
        )
