"""The teacher's last hidden states, and its head once: the whole distribution for about a byte a channel.

Each channel of an entry is kept in steps. A channel's step is such that its rounding moves the logits as much as any
other channel's does, which for a given error takes the fewest bits: the larger the weights that read it, the smaller.

Shape letters: N rows, n rows of one entry, V vocabulary, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from kdlab.teachers.codecs.base import Codec, Payload

if TYPE_CHECKING:
    from torch import Tensor

    from kdlab.rows import Projected, Signal

OCTAVE = 16
"""Steps are powers of 2^(1/16): two bytes say one."""
MIDDLE = 125 * OCTAVE
"""Exponents are kept above it, and are no larger: float32 holds all such steps."""
LARGEST = 2**31 - 1


@dataclass(kw_only=True)
class HiddenCodec(Codec):
    """The hidden states, rounded so that the logits move by `error` nats in root mean square; the head lies beside the
    shards."""

    error: float = 0.03

    name: ClassVar[str] = "hidden"
    whole: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1e-5 <= self.error <= 1:
            raise ValueError(f"codec.error={self.error}: must be from 0.00001 to 1 nat")

    @property
    def bound(self) -> str:
        return f"hidden states rounded so that logits move by {self.error:g} nats in root mean square"

    def bytes_per_row(self, vocabulary: int, hidden: int) -> float:
        from math import log2

        return hidden * max(1, 7.1 - log2(self.error / 0.03)) / 8

    def encode(self, signal: Signal, labels_N: Tensor, *, lengths: Sequence[int], seeds: Sequence[int]) -> list[bytes]:
        from kdlab.rows import Projected
        from kdlab.teachers.codecs.reading import spans

        if not isinstance(signal, Projected):
            raise ValueError(
                "codec=hidden: this teacher shows no hidden states in front of a plain head; use codec=topk, "
                "codec=head_and_samples or, for few classes, codec=dense"
            )
        parts = spans(signal, labels_N, lengths)
        hidden_NH = signal.hidden_NH.float().cpu().numpy()
        exponent_H = self._exponents(signal)
        return [self._packed(hidden_NH[start:end], exponent_H) for start, end in parts]

    def decode(
        self, payloads: Sequence[Payload], *, lengths: Sequence[int], vocabulary: int, head: Projected | None = None
    ) -> Projected:
        from dataclasses import replace

        import torch

        assert head is not None
        assert head.vocabulary == vocabulary, (head.vocabulary, vocabulary)
        hidden_NH = torch.empty(sum(lengths), head.weight_VH.shape[1])
        row = 0
        for payload, n in zip(payloads, lengths, strict=True):
            level_Hn, step_H = _unpacked(payload, n, hidden_NH.shape[1])
            level_nH = torch.from_numpy(level_Hn).T.contiguous()
            torch.mul(level_nH, torch.from_numpy(step_H), out=hidden_NH[row : row + n])
            row += n
        return replace(head, hidden_NH=hidden_NH.to(head.weight_VH.dtype))

    def _exponents(self, head: Projected) -> Any:
        """log2 of each channel's step, in sixteenths.

        Rounding to steps s_c moves logit v by Σ_c W_vc e_c, with e_c even in ± s_c / 2. A shift that all v have in
        common changes no probability, so the weights count around their mean: variance Σ_c s_c² var_v(W_vc) / 12.
        """
        import numpy as np

        weight_VH = head.weight_VH.detach()
        spread_H = weight_VH.float().std(0, correction=0).double().cpu().numpy() * abs(head.scale)
        spread_H = np.maximum(spread_H, max(spread_H.max(), 1e-30) * 1e-4)
        step_H = self.error * np.sqrt(12 / weight_VH.shape[1]) / spread_H
        return np.clip(np.round(np.log2(step_H) * OCTAVE), -MIDDLE, MIDDLE).astype(np.int64)

    def _packed(self, hidden_nH: Any, exponent_H: Any) -> bytes:
        import numpy as np

        from kdlab.teachers.codecs.packing import pack

        with np.errstate(over="ignore", invalid="ignore"):
            level_nH = np.rint(hidden_nH / np.exp2(exponent_H / OCTAVE))
        if not (np.abs(level_nH) <= LARGEST // 2).all():
            raise ValueError(
                f"codec.error={self.error:g}: hidden states that are no numbers (NaN or inf), or far too large for it; "
                "raise it, or try teacher.dtype=float32"
            )
        level_Hn = level_nH.T.astype(np.int64)
        zigzag_Hn = np.where(level_Hn < 0, -2 * level_Hn - 1, 2 * level_Hn)
        return pack([exponent_H + MIDDLE, zigzag_Hn.reshape(-1)])


def _unpacked(payload: Payload, rows: int, width: int) -> tuple[Any, Any]:
    """An entry's levels `[H, n]` and the step of each channel `[H]`."""
    import numpy as np

    from kdlab.teachers.codecs.packing import FOREIGN, unpack

    exponent_H, zigzag = unpack(payload, (width, rows * width))
    if len(exponent_H) != width or len(zigzag) != rows * width or int(exponent_H.max()) > 2 * MIDDLE:
        raise ValueError(f"{FOREIGN} (other rows, or another head)")
    step_H = np.exp2((exponent_H.astype(np.float64) - MIDDLE) / OCTAVE).astype(np.float32)
    wide = zigzag.astype(f"<u{max(2, zigzag.itemsize)}", copy=False)
    level = (wide >> 1) ^ (0 - (wide & 1))
    return level.view(f"<i{wide.itemsize}").reshape(width, rows), step_H
