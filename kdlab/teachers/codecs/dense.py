"""Every entry of every row: for tiny vocabularies and classes.

Shape letters: N rows, n rows of one entry or chunk, V vocabulary or classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from kdlab.teachers.codecs.base import Codec, Payload

if TYPE_CHECKING:
    from torch import Tensor

    from kdlab.rows import Dense, Projected, Signal


@dataclass(kw_only=True)
class DenseCodec(Codec):
    """All log-probabilities of a row in 16 bits, less that of its most likely entry, which so is exact."""

    name: ClassVar[str] = "dense"
    whole: ClassVar[bool] = True

    @property
    def bound(self) -> str:
        return "each log-probability within 1/2048 of its distance to the row's largest (at most 65504 nats)"

    def bytes_per_row(self, vocabulary: int, hidden: int) -> float:
        return 2.0 * vocabulary

    def encode(self, signal: Signal, labels_N: Tensor, *, lengths: Sequence[int], seeds: Sequence[int]) -> list[bytes]:
        import numpy as np

        from kdlab.teachers.codecs.packing import bits, pack
        from kdlab.teachers.codecs.reading import halves, log_probabilities, side_of, spans

        side, payloads = side_of(signal, self.name), []
        for span in spans(signal, labels_N, lengths):
            parts = [np.zeros(0, np.float16)]
            for logp_nV, _ in log_probabilities(side, span, labels_N, 1.0):
                parts.append(halves(logp_nV - logp_nV.amax(1, keepdim=True)).reshape(-1))
            payloads.append(pack([bits(-np.concatenate(parts))]))
        return payloads

    def decode(
        self, payloads: Sequence[Payload], *, lengths: Sequence[int], vocabulary: int, head: Projected | None = None
    ) -> Dense:
        import numpy as np
        import torch

        from kdlab.rows import Dense
        from kdlab.teachers.codecs.packing import FOREIGN, floats, joined, unpack

        parts = []
        for payload, n in zip(payloads, lengths, strict=True):
            (values,) = unpack(payload, (n * vocabulary,))
            if len(values) != n * vocabulary:
                raise ValueError(f"{FOREIGN} (other rows, or another vocabulary)")
            parts.append(values)
        below_NV = floats(joined(parts), 2).astype(np.float32).reshape(-1, vocabulary)
        return Dense(logits_NV=torch.from_numpy(-below_NV).log_softmax(1))
