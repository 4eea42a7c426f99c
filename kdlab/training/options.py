"""Which options decide what a run computes, so that a checkpoint is only continued by the run that wrote it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

STEERING = ("dataset.cache_dir", "trainer.loggers", "trainer.progress", "trainer.workers", "writing.progress")
"""Options, or groups of them, by which no number of a job changes: they are not in the name of its folder."""
FREE = ("name", "cluster", "benchmark", "trainer.checkpoint", *STEERING)
"""Options, or groups of them, that may change between two starts of one run: no step's numbers depend on them.

`trainer.threads` is not among them: it changes the order in which the processor adds up.
"""


def among(option: str, groups: Iterable[str]) -> bool:
    """Whether an option is one of these, or in a group that is."""
    return any(option == group or option.startswith(f"{group}.") for group in groups)


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
    flat = flatten(config)
    choosing = _choosing(flat)
    return {name: value for name, value in flat.items() if name in choosing or not among(name, FREE)}


def _choosing(flat: Mapping[str, Any]) -> set[str]:
    """Free options that choose among the weights of a run: which become the model, and when it stops."""
    best = flat.get("trainer.checkpoint.final") == "best"
    stops = any(name.startswith("trainer.early_stopping.") for name in flat)
    names = {"trainer.checkpoint.final"}
    if best:
        names.add("trainer.checkpoint.monitor")
    if best or stops:
        names.add("benchmark.tokens")
    return names


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
