"""The losses, by the name an option gives them. Being listed is being tested. Importable without torch."""

from kdlab.losses.alpha_beta import AlphaBeta
from kdlab.losses.base import Loss, RowLoss
from kdlab.losses.cross import CROSS_LOSSES
from kdlab.losses.distances import LogitMSE, TotalVariation
from kdlab.losses.hard import Hard
from kdlab.losses.kullback_leibler import AdaptiveKL, ForwardKL, ReverseKL, Symmetric
from kdlab.losses.mixtures import JensenShannon, SkewForward, SkewReverse
from kdlab.losses.squared_error import SquaredError

LOSSES: dict[str, type[RowLoss]] = {
    "hard": Hard,
    "forward_kl": ForwardKL,
    "reverse_kl": ReverseKL,
    "symmetric": Symmetric,
    "jensen_shannon": JensenShannon,
    "skew_forward": SkewForward,
    "skew_reverse": SkewReverse,
    "adaptive_kl": AdaptiveKL,
    "alpha_beta": AlphaBeta,
    "total_variation": TotalVariation,
    "logit_mse": LogitMSE,
}
"""Row losses: teacher and student share a vocabulary."""

NUMBER_LOSSES: dict[str, type[Loss]] = {"squared_error": SquaredError}
"""Losses of a regression: teacher and student give one number a row."""

ALL_LOSSES: dict[str, type[Loss]] = {**LOSSES, **CROSS_LOSSES, **NUMBER_LOSSES}


def loss_name(loss: Loss) -> str:
    """The option that chose the loss; of one that is none of ours, its class."""
    return next((name for name, kind in ALL_LOSSES.items() if kind is type(loss)), type(loss).__name__)


__all__ = ["ALL_LOSSES", "CROSS_LOSSES", "LOSSES", "NUMBER_LOSSES", "Loss", "RowLoss", "loss_name"]
