"""Which process this is, under each launcher."""

from __future__ import annotations

import pytest

from kdlab.training.ranks import LOCAL_RANKS, RANKS, launched, local_rank, rank


@pytest.fixture
def told(monkeypatch):
    """`told(RANK=1)`: the environment tells that of ranks, and nothing else."""

    def tell(**environment: int) -> None:
        for name in {*RANKS, *LOCAL_RANKS}:
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, str(value))

    return tell


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, (0, 0)),  # Lightning's first process
        ({"LOCAL_RANK": 1}, (1, 1)),  # one it started
        ({"LOCAL_RANK": 1, "SLURM_PROCID": 0, "SLURM_LOCALID": 0}, (1, 1)),  # the same inside a SLURM step
        ({"SLURM_PROCID": 0, "SLURM_LOCALID": 0}, (0, 0)),
        ({"SLURM_PROCID": 3, "SLURM_LOCALID": 1}, (3, 1)),  # srun
        ({"RANK": 5, "LOCAL_RANK": 1, "SLURM_PROCID": 0, "SLURM_LOCALID": 0}, (5, 1)),  # torchrun inside a SLURM step
    ],
)
def test_every_launcher_is_understood(told, environment, found):
    told(**environment)
    assert (rank(2), local_rank(2)) == found
    assert launched() is bool(environment)


def test_a_job_of_one_device_is_the_first_whatever_started_it(told):
    told(RANK=2, LOCAL_RANK=2, SLURM_PROCID=2, SLURM_LOCALID=2)
    assert (rank(1), local_rank(1)) == (0, 0)


def test_the_device_is_the_local_one(told, job, monkeypatch):
    from kdlab.training import device

    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device.torch.cuda, "device_count", lambda: 4)
    told(SLURM_PROCID=5, SLURM_LOCALID=1)
    assert str(device.choose_device(job(devices=4, accelerator="gpu").trainer)) == "cuda:1"
    assert str(device.choose_device(job(devices=1, accelerator="gpu").trainer)) == "cuda:0"
