"""OptimalTransport."""

from __future__ import annotations

from dataclasses import dataclass

from kdlab.losses.cross.base import CrossLoss


@dataclass(kw_only=True)
class OptimalTransport(CrossLoss):
    """OptimalTransport."""
