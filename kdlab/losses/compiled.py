"""`loss.compile=true`: the tile arithmetic through torch.compile, where a compiler is found and works.

A compiled tile fuses its passes by itself, so it takes a whole chunk; only the eager one is cut up to fit a cache.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch

from kdlab.losses.base import RowLoss
from kdlab.losses.tile import Plan, has_closed_form, tile

Tile = Callable[..., Any]

_compiled: dict[tuple[Any, ...], Tile] = {}
_failed: set[str] = set()


@cache
def missing_compiler(device_type: str) -> str | None:
    """What torch.compile lacks on this device, or None. Warns on the first call for each device."""
    if device_type == "cpu":
        found = any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))
        missing = None if found else "no C++ compiler (g++, clang++ or $CXX) found"
    else:
        missing = None if importlib.util.find_spec("triton") else "no triton found"
    if missing:
        _warn(missing)
    return missing


def tile_for(loss: RowLoss, plan: Plan, device: torch.device) -> tuple[Tile, bool]:
    """The tile function of a loss, and whether it is compiled and wants a chunk at a time."""
    eager = partial(tile, loss, plan, loss.divergence)
    if not loss.compile or device.type in _failed or missing_compiler(device.type):
        return eager, False
    key = (type(loss), repr(loss), plan, device.type)
    if key not in _compiled:
        if has_closed_form(loss):
            fast: Tile = torch.compile(eager, dynamic=True)
        else:  # autograd inside a tile does not compile; the formula does
            fast = partial(tile, loss, plan, torch.compile(loss.divergence, dynamic=True))
        _compiled[key] = _or_eager(fast, eager, device.type)
    return _compiled[key], True


def _or_eager(fast: Tile, eager: Tile, device_type: str) -> Tile:
    """`fast`, or `eager` from the moment that compiling fails: a compiler can be there and lack a header."""
    from torch._dynamo.exc import TorchDynamoException  # two seconds to import

    def run(*tensors: Any) -> Any:
        if device_type not in _failed:
            try:
                return fast(*tensors)
            except TorchDynamoException as error:  # raised before anything has run, so nothing is half written
                _failed.add(device_type)
                _warn(f"torch.compile failed ({str(error).strip().splitlines()[0]})")
        return eager(*tensors)

    return run


def _warn(reason: str) -> None:
    warnings.warn(f"loss.compile=true: {reason}; the loss runs without compilation", stacklevel=2)
