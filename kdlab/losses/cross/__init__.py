"""Losses between models with different tokenizers, by the name an option gives them. Importable without torch."""

from kdlab.losses.cross.base import CrossLoss
from kdlab.losses.cross.optimal_transport import OptimalTransport
from kdlab.losses.cross.span_kl import SpanKL
from kdlab.losses.cross.uld import ULD, ULDHybrid

CROSS_LOSSES: dict[str, type[CrossLoss]] = {
    "uld": ULD,
    "uld_hybrid": ULDHybrid,
    "span_kl": SpanKL,
    "optimal_transport": OptimalTransport,
}

__all__ = ["CROSS_LOSSES", "CrossLoss"]
