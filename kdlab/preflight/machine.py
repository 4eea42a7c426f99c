"""What the machine has: memory of its host and device, and how fast it multiplies, copies and takes a softmax."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kdlab.training.manifest import hardware

LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where a container is told how much memory it may use."""
PROBE_SECONDS = 0.4
PROBE_ROWS = 2048
PROBE_BYTES = 64 * 2**20
PROBE_WIDTH = 4096


@dataclass(frozen=True, kw_only=True)
class Room:
    """Bytes of memory in all, and as many of them as are free now (None: not known). `where` says whose."""

    total: int
    free: int | None
    where: str


def room(device: torch.device) -> Room:
    """The memory that a run on `device` has: the GPU's own, or the host's, within the limit of its container."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return Room(total=total, free=free, where=torch.cuda.get_device_name(device))
    return host()


def host(
    limits: tuple[Path, ...] = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")),
) -> Room:
    """The memory of this machine, or what its container may use of it."""
    total, where = int(hardware()["memory_bytes"]), "this machine"
    for file in limits:
        text = file.read_text().strip() if file.is_file() else ""
        if text.isdigit() and int(text) < total:
            total, where = int(text), "this container"
    available = _meminfo("MemAvailable")
    return Room(total=total, free=None if available is None else min(available, total), where=where)


def _meminfo(key: str, file: Path = Path("/proc/meminfo")) -> int | None:
    if not file.is_file():
        return None
    for line in file.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return None


def resident() -> int:
    """Bytes of this process that are in memory now; its peak where the system does not say."""
    statm = Path("/proc/self/statm")
    if statm.is_file():
        import os

        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    from kdlab.training.manifest import peak_memory

    return peak_memory(torch.device("cpu"))["host"] or 0


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Of one device: `products` floating-point operations, `copied` bytes read or written, `softmaxes` logits, each a
    second."""

    products: float
    copied: float
    softmaxes: float


def probe(device: torch.device, *, dtype: torch.dtype, rows: int, hidden: int, wide: int, threads: int | None) -> Speed:
    """Time one matrix product of a layer's shape ([rows, hidden] by [hidden, wide]) in `dtype`, one copy and one
    softmax, less than half a second each."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        rows = max(1, min(rows, PROBE_ROWS))
        left, right = (
            torch.randn(rows, hidden, device=device).to(dtype),
            torch.randn(hidden, wide, device=device).to(dtype),
        )
        products = _per_second(lambda: left @ right, device) * 2 * rows * hidden * wide
        bytes_there = torch.zeros(PROBE_BYTES // 4, device=device)
        copied = _per_second(lambda: bytes_there.mul_(1.0), device) * 2 * PROBE_BYTES
        logits = torch.randn(32, PROBE_WIDTH, device=device)
        softmaxes = _per_second(lambda: logits.log_softmax(-1), device) * logits.numel()
    finally:
        torch.set_num_threads(before)
    return Speed(products=products, copied=copied, softmaxes=softmaxes)


def _per_second(work: Callable[[], Any], device: torch.device) -> float:
    """How often `work` is done in a second, the first time aside; the best of up to ten tries, for others may be
    working here too."""
    work()
    began, best = time.perf_counter(), 0.0
    while time.perf_counter() - began < PROBE_SECONDS:
        start, done = time.perf_counter(), 0
        while done < 1 or time.perf_counter() - start < PROBE_SECONDS / 10:
            work()
            done += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = max(best, done / (time.perf_counter() - start))
    return best
