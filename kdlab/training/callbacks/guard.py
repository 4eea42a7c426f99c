"""Stop at the first loss or gradient that is not a finite number, before it reaches the weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kdlab.training.stopping import NotFinite

if TYPE_CHECKING:
    from torch import Tensor

    from kdlab.batch import Batch

SHOWN = 16
"""Example ids that a message names at most."""
SKIPS = 20
"""Steps in a row that a float16 gradient scaler may skip while it looks for a scale that fits."""


class Guard:
    """Raises `NotFinite` with the step and the ids of the examples that did it.

    With a gradient scaler (16-mixed) an infinite gradient only means that the scale was too large: the scaler skips
    the step and halves it, so that is allowed `SKIPS` times in a row.
    """

    def __init__(self) -> None:
        self._skipped = 0

    def check(
        self, loss: float, gradient_norm: float, *, step: int, batches: list[tuple[Batch, Tensor]], scaled: bool
    ) -> None:
        """`batches` are the micro-batches of the step and the loss of each."""
        if math.isfinite(loss) and math.isfinite(gradient_norm):
            self._skipped = 0
            return
        if math.isfinite(loss) and scaled:
            self._skipped += 1
            if self._skipped <= SKIPS:
                return
        bad = [batch for batch, part in batches if not math.isfinite(float(part))] or [batch for batch, _ in batches]
        ids = [example for batch in bad for example in batch.example_ids]
        named = ", ".join(str(example) for example in ids[:SHOWN]) + (" ..." if len(ids) > SHOWN else "")
        what = f"the gradient norm is {gradient_norm}" if math.isfinite(loss) else f"the loss is {loss}"
        raise NotFinite(f"step {step}: {what} (examples {named})")
