"""The row losses, by the name an option gives them. Being listed is being tested. Importable without torch."""

from kdlab.losses.alpha_beta import AlphaBeta
from kdlab.losses.base import RowLoss
from kdlab.losses.distances import LogitMSE, TotalVariation
from kdlab.losses.hard import Hard
from kdlab.losses.kullback_leibler import AdaptiveKL, ForwardKL, ReverseKL, Symmetric
from kdlab.losses.mixtures import JensenShannon, SkewForward, SkewReverse

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

__all__ = ["LOSSES", "RowLoss"]
