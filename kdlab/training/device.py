"""Where a run computes and in which precision, and what else of the process it sets."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from kdlab.models.dtype import resolve
from kdlab.training.ranks import local_rank

if TYPE_CHECKING:
    from kdlab.training.recipe import TrainerConfig


def choose_device(config: TrainerConfig) -> torch.device:
    """The device of this process. Raises ValueError where the accelerator asked for is not there."""
    return find_device(config.accelerator, devices=config.devices)


def find_device(wanted: str, *, devices: int = 1, group: str = "trainer") -> torch.device:
    """As `choose_device`, for the accelerator that `group` asks for."""
    if wanted in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        if torch.cuda.device_count() < devices:
            raise ValueError(f"{group}.devices={devices}: there are only {torch.cuda.device_count()}")
        return torch.device("cuda", local_rank(devices))
    if wanted in ("gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    if wanted in ("auto", "cpu"):
        return torch.device("cpu")
    raise ValueError(f"{group}.accelerator={wanted}: there is none here; use {group}.accelerator=cpu")


def choose_precision(config: TrainerConfig, device: torch.device) -> str:
    """Lightning's name for the precision."""
    if config.precision == "auto":
        return "bf16-mixed" if resolve("auto", device) == torch.bfloat16 else "32-true"
    return "32-true" if config.precision == "32" else config.precision


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Without Lightning's banners and other libraries' advice to their developers, for the time of the block."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\b")
            # Deterministic where CUDA can, and told at the first kernel that cannot: once is enough, and known.
            warnings.filterwarnings("ignore", message=r".*does not have a deterministic implementation.*")
            # peft calls what transformers has renamed.
            warnings.filterwarnings(
                "ignore", message=r".*gradient_checkpointing.* is deprecated", category=FutureWarning
            )
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
