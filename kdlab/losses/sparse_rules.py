"""Which losses may read which sparse signal. Asked before anything is loaded, and again where a signal is read.

    check_signal(config.loss, codec="topk", temperature=1.0)

Importable without torch.
"""

from __future__ import annotations

from kdlab.losses import LOSSES
from kdlab.losses.base import Loss, RowLoss

WHOLE = ("hidden", "dense")
"""Codecs that keep whole distributions: any loss reads them at any temperature (`dense` lacks a constant a row, which
only a loss of logits sees)."""
DRAWN = ("sampled", "head_and_samples")
"""Codecs that keep unbiased draws (`rows.Sampled`)."""
_REMEDY = "use a cache of codec=hidden or codec=dense, or a live teacher"


def check_signal(loss: Loss, *, codec: str, temperature: float, whole: bool = False) -> None:
    """Raise ValueError, in one line that names the option and the remedy, where `loss` cannot read what `codec` keeps.

    `codec` is a name of CODECS; a remote teacher's most likely tokens are "topk". `temperature` is that of the
    log-probabilities or draws. `whole` says of "topk" that it keeps every entry, which is exact at any temperature.
    """
    if not loss.asks_teacher:
        return
    name = next((name for name, kind in LOSSES.items() if kind is type(loss)), type(loss).__name__)
    if isinstance(loss, RowLoss) and loss.space == "logit" and codec != "hidden":
        raise ValueError(
            f"loss={name}: compares the logits of every token as they are, and this teacher's are kept as "
            "log-probabilities, or of some tokens only; use a cache of codec=hidden, or a live teacher"
        )
    if codec in WHOLE:
        return
    if not isinstance(loss, RowLoss) or loss.vocab != "strict":
        option = "loss.vocab=shared" if isinstance(loss, RowLoss) else "a loss between two tokenizers"
        raise ValueError(
            f"{option}: needs the teacher's whole distribution, and this teacher tells of some tokens only; {_REMEDY}"
        )
    if codec in DRAWN and not loss.linear_in_teacher:
        raise ValueError(
            f"loss={name}: is biased on drawn tokens, where only a loss linear in the teacher's probabilities is not; "
            "choose loss=forward_kl, or a cache of codec=topk, codec=hidden or codec=dense"
        )
    if whole and codec == "topk":
        return
    if loss.temperature_anneal is not None:
        raise ValueError(
            f"loss.temperature_anneal: this teacher tells of some tokens only, at temperature {temperature:g}, and "
            f"cannot be softened anew; drop it, or {_REMEDY}"
        )
    if loss.temperature != temperature:
        raise ValueError(
            f"loss.temperature={loss.temperature:g}: this teacher tells of some tokens only, at temperature "
            f"{temperature:g}, and cannot be softened anew; write loss.temperature={temperature:g}, or make its cache "
            f"with codec.temperature={loss.temperature:g}, or {_REMEDY}"
        )
