"""How long a model takes to decide: about one example at a time, and about batches. Measured, never computed.

    latency(pair.split, data.heldout(), device=device)["p95_ms"]

Shape letters: B batch, T time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kdlab.models.classifier import ClassifierSplit
from kdlab.models.head import evaluating
from kdlab.training.evaluation import forward_speed

if TYPE_CHECKING:
    from kdlab.batch import Batch
    from kdlab.models.head import SplitModel
    from kdlab.training.recipe import BenchmarkConfig

AT_MOST = 64
"""Single examples that are timed, and batches."""
SECONDS = 1.5
"""When timing either of them stops, once it has begun."""


def latency(
    split: ClassifierSplit | Callable[[Batch], object], batches: Iterable[Batch], *, device: torch.device | str = "cpu"
) -> dict[str, float]:
    """`p50_ms` and `p95_ms`: the median and the 95th percentile of the wall-clock milliseconds of a forward pass over
    one example without padding; `examples_per_second` over batches as they come.

    `split` is a model's, or any function of a batch. The first example is read once before the clock starts. Raises
    ValueError where there are no batches.
    """
    run: Any = getattr(split, "hidden", split)
    model = getattr(split, "model", None)
    read = list(batches)
    if not read:
        raise ValueError("dataset.heldout: there are no rows to time; hold out more of them")
    with nullcontext() if model is None else evaluating(model), torch.no_grad():
        _time(run, alone(read[0], 0).to(device))
        places = [(batch, i) for batch in read for i in range(len(batch.input_ids_BT))]
        one = list(_times(run, (alone(*places[at]) for at in _some(len(places))), device))
        many = list(_times(run, (read[at] for at in _some(len(read))), device))
    p50, p95 = np.percentile([seconds for _, seconds in one], [50, 95])
    return {
        "p50_ms": 1000 * float(p50),
        "p95_ms": 1000 * float(p95),
        "examples_per_second": sum(examples for examples, _ in many) / sum(seconds for _, seconds in many),
    }


def speed(
    config: BenchmarkConfig, split: SplitModel | ClassifierSplit | None, batches: Iterable[Batch], *, device: Any
) -> dict[str, Any]:
    """`tokens_per_second` and `latency` of a classifier for run.json, None where `benchmark.speed` is off or the model
    is not here."""
    if split is None or not config.speed:
        return {"tokens_per_second": None, "latency": None}
    assert isinstance(split, ClassifierSplit)
    read = list(batches)
    return {
        "tokens_per_second": forward_speed(split, read, device=device),
        "latency": latency(split, read, device=device),
    }


def alone(batch: Batch, i: int) -> Batch:
    """Example `i` of a batch by itself, without its padding."""
    ids_1T, mask_BT = batch.input_ids_BT[i : i + 1], batch.attention_mask_BT
    labels_1 = batch.labels_BT[i : i + 1]
    if mask_BT is None:
        return replace(batch, input_ids_BT=ids_1T, labels_BT=labels_1, example_ids=(), padding=0, teacher=None)
    on_T = mask_BT[i].bool()
    return replace(
        batch,
        input_ids_BT=ids_1T[:, on_T],
        attention_mask_BT=mask_BT[i : i + 1, on_T],
        labels_BT=labels_1,
        example_ids=(),
        padding=0,
        teacher=None,
    )


def _some(count: int) -> list[int]:
    """Which of so many are timed, in a fixed random order: held-out batches come longest first."""
    order: list[int] = np.random.default_rng(0).permutation(count)[:AT_MOST].tolist()
    return order


def _times(run: Callable[[Batch], object], batches: Iterable[Batch], device: Any) -> Iterator[tuple[int, float]]:
    """Examples and seconds of each batch, until `SECONDS` are over."""
    total = 0.0
    for batch in batches:
        seconds = _time(run, batch.to(device))
        yield len(batch.input_ids_BT), seconds
        total += seconds
        if total >= SECONDS:
            return


def _time(run: Callable[[Batch], object], batch: Batch) -> float:
    """Seconds of one pass, until a GPU has done it."""
    device = batch.input_ids_BT.device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    run(batch)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
