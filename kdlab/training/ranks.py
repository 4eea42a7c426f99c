"""Which of several processes this one is, as its launcher (torchrun, Lightning, SLURM) tells it. Torch-free."""

from __future__ import annotations

import os

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
"""Where a rank is told. LOCAL_RANK before SLURM's: the processes that Lightning starts inside a SLURM step inherit the
step's SLURM_PROCID=0, and only LOCAL_RANK tells them apart."""
LOCAL_RANKS = ("LOCAL_RANK", "SLURM_LOCALID")


def rank(devices: int) -> int:
    """This process's rank in a job of so many `devices`; 0 for a job of one, whatever started it."""
    return _told(RANKS) if devices > 1 else 0


def local_rank(devices: int) -> int:
    """The number of this process's device on its machine; 0 for a job of one."""
    return _told(LOCAL_RANKS) if devices > 1 else 0


def launched() -> bool:
    """Whether a launcher has started this process as one of several, or may have."""
    return any(name in os.environ for name in RANKS)


def _told(names: tuple[str, ...]) -> int:
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)
