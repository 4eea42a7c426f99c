"""SquaredError: the loss of a regression, whose rows are one number each. Importable without torch.

    out = squared_error(SquaredError(hard_weight=0.5), rows, count=rows_of_the_whole_step)
    out.loss.backward()

Shape letters: N rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from kdlab.losses.base import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from kdlab.losses.engine import LossOutput
    from kdlab.rows import Rows, Signal


@dataclass(kw_only=True)
class SquaredError(Loss):
    """`(1 - hard_weight) (z_s - z_t)² + hard_weight (z_s - y)²`, summed over rows: z_s and z_t are the numbers that
    student and teacher give, y the label.

    A number is no distribution, so there is no temperature and no T². Rows are so few and small that `chunk_rows` has
    no effect. Without a teacher `hard_weight` is 1.
    """

    needs_teacher: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature != 1 or self.temperature_anneal is not None:
            option = "temperature_anneal" if self.temperature_anneal is not None else "temperature"
            raise ValueError(
                f"loss.{option}: loss=squared_error compares numbers, which no temperature softens; leave it out"
            )

    @property
    def asks_teacher(self) -> bool:
        ends = [self.hard_weight] + ([self.hard_weight_anneal.to] if self.hard_weight_anneal else [])
        return min(ends) < 1

    @property
    def pairing(self) -> str:
        return "strict"


def squared_error(loss: SquaredError, rows: Rows, *, count: float) -> LossOutput:
    """`Σ_rows [(1 - hard_weight) (z_s - z_t)² + hard_weight weight_row (z_s - y)²] / count`.

    `count` is the number of rows of the whole optimiser step. Sums are in float32 (float64 for float64). No rows give a
    loss of 0 with a graph. Raises ValueError where the loss needs a teacher and the rows have none.
    """
    from kdlab.losses.engine import LossOutput

    if rows.teacher is None and loss.hard_weight < 1:
        raise ValueError("loss.hard_weight: it compares with a teacher and there is none; choose one, or hard_weight=1")
    assert count > 0 or len(rows) == 0, count
    given_N = _numbers(rows.student)
    hard_N = (given_N - rows.labels_N.to(given_N.dtype)).square()
    if rows.weight_N is not None:
        hard_N = hard_N * rows.weight_N.to(given_N.dtype)
    divergence, hard = given_N.new_zeros(()), hard_N.sum()
    if rows.teacher is not None and loss.hard_weight < 1:
        divergence = (given_N - _numbers(rows.teacher).detach()).square().sum()
    total = ((1 - loss.hard_weight) * divergence + loss.hard_weight * hard) / (count or 1.0)
    return LossOutput(loss=total, divergence=divergence.detach(), hard=hard.detach() if loss.hard_weight > 0 else None)


def _numbers(signal: Signal) -> Tensor:
    """The one number of each row `[N]`."""
    from kdlab.losses.sides import math_dtype
    from kdlab.rows import Projected, whole

    side = whole(signal, "loss=squared_error")
    if isinstance(side, Projected):
        side = side.dense()
    assert side.vocabulary == 1, "a regression has one output"
    return side.logits_NV[:, 0].to(math_dtype(side.logits_NV.dtype))
