"""The machine: the limit of a container, what this process holds, and that a probe gives speeds."""

from __future__ import annotations

from pathlib import Path

import torch

from kdlab.preflight.machine import host, probe, resident
from kdlab.training.manifest import hardware


def test_a_container_may_have_less(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    assert host((limit,)).total == hardware()["memory_bytes"]
    limit.write_text("max\n")
    assert host((limit,)).where == "this machine"
    limit.write_text(f"{2**28}\n")
    found = host((limit,))
    assert (found.total, found.where) == (2**28, "this container")
    assert found.free is None or found.free <= 2**28


def test_this_process_holds_something() -> None:
    held = torch.ones(8 * 2**20)
    assert resident() > held.nbytes


def test_a_probe_leaves_the_threads_alone() -> None:
    before = torch.get_num_threads()
    speed = probe(torch.device("cpu"), dtype=torch.float32, rows=32, hidden=64, wide=128, threads=1)
    assert min(speed.products, speed.copied, speed.softmaxes) > 1e5
    assert torch.get_num_threads() == before
