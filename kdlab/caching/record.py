"""cache.json: how a job's processes got on. It is no part of the cache, which has no dates, machines or timings."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from kdlab.durable import read_json, write_json
from kdlab.training.manifest import describe_device, git_state, hardware, now, peak_memory, versions

if TYPE_CHECKING:
    import torch

    from kdlab.caching.recipe import CacheConfig

FILE = "cache.json"


def keep_record(
    config: CacheConfig,
    folder: Path,
    *,
    overrides: list[str],
    device: torch.device,
    rows: int,
    seconds: dict[str, float],
    cache: str,
) -> None:
    """Add this process to the record of the job in `folder`. `rows` are those that it made in `seconds["fill"]`."""
    folder.mkdir(parents=True, exist_ok=True)
    process: dict[str, Any] = {
        "ended": now(),
        "rows": rows,
        "rows_per_second": rows / seconds["fill"] if rows else None,
        "seconds": seconds,
        "peak_memory_bytes": peak_memory(device),
        "hardware": hardware() | describe_device(device),
        "versions": versions(),
        "git": git_state(Path(__file__).resolve().parent),
    }
    with FileLock(folder / f".{FILE}.lock"):
        found = read_json(folder / FILE)
        before = found["processes"] if isinstance(found, dict) else []
        record = {"cache": cache, "overrides": overrides, "config": asdict(config), "processes": [*before, process]}
        write_json(folder / FILE, record)
