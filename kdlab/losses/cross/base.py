"""CrossLoss: what a loss between two tokenizers is, and the options each has. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from kdlab.losses.base import Loss


@dataclass(kw_only=True)
class CrossLoss(Loss):
    """`((1 - hard_weight) Σ_spans divergence + hard_weight Σ_rows CE(q, labels)) / the student's rows of the step`.

    Spans are stretches of bytes that begin and end at a token of either model (`rows.PairRows`).
    """

    @property
    def pairing(self) -> str:
        return "cross"
