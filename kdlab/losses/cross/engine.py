"""The engine of the cross-tokenizer losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdlab.losses.cross.base import CrossLoss
    from kdlab.losses.engine import LossOutput
    from kdlab.rows import PairRows
    from kdlab.text.vocabulary import Matched


def cross_loss(loss: CrossLoss, rows: PairRows, *, matched: Matched, count: float) -> LossOutput:
    """As `losses.engine.row_loss`, for rows of two tokenizers."""
    raise TypeError("not written yet")
