"""What the trained student is worth beside its held-out metrics: its speed, and its answers to the samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdlab.training.decisions import judged, told
from kdlab.training.evaluation import continuations, forward_speed
from kdlab.training.latency import speed

if TYPE_CHECKING:
    import torch

    from kdlab.training.before import Before
    from kdlab.training.data import DistillData
    from kdlab.training.pair import ModelPair
    from kdlab.training.recipe import BenchmarkConfig


def measure_after(
    config: BenchmarkConfig,
    pair: ModelPair,
    tokenizer: Any,
    data: DistillData,
    measured: Before,
    *,
    device: torch.device,
) -> tuple[dict[str, Any], list[str]]:
    """Metrics to add to those of the held-out rows, and the student's answer to each sample of `measured`. Classifiers
    are judged on the test rows here, once."""
    if pair.deciding is not None:
        found = speed(config, pair.split, data.heldout(), device=device)
        if data.data.test is not None:
            found["test"] = judged(pair, data.test(), device=device).student
        batch = data.first(len(measured.samples))
        return found, [] if batch is None else [row["student"] for row in told(pair, batch, device=device)]
    found = {}
    if config.speed:
        found["tokens_per_second"] = forward_speed(pair.split, data.heldout(), device=device)
    written = continuations(
        pair.split.model, tokenizer, measured.prompts, max_new_tokens=config.max_new_tokens, device=device
    )
    return found, written
