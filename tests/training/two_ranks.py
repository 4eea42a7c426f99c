"""A run by two processes on this machine, as torchrun starts them."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import socket
from pathlib import Path

import torch

from kdlab.training.recipe import TrainConfig
from kdlab.training.run import train


def one_of_two(rank: int, port: int, config: TrainConfig, folder: Path) -> None:
    """What torchrun sets for each of its processes."""
    run = {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0}
    here = {"RANK": rank, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in {**run, **here}.items()})
    torch.set_num_threads(1)
    train(config, output_dir=folder, resolved=dataclasses.asdict(config), overrides=[])


def train_by_two(config: TrainConfig, folder: Path) -> list[int | None]:
    """How both processes ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # A server that has imported everything once, and forks: two ranks start in no time.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["kdlab.training.session", "transformers.models.llama.modeling_llama"])
    ranks = [processes.Process(target=one_of_two, args=(rank, port, config, folder)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(120)
        rank.kill()
    return [rank.exitcode for rank in ranks]
