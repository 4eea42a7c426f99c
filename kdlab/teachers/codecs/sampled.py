"""Unbiased draws from each row: of the whole distribution, or of its tail behind an exact head.

Shape letters: N rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from kdlab.teachers.codecs.base import Codec, Payload

if TYPE_CHECKING:
    from torch import Tensor

    from kdlab.rows import Projected, Sampled, Signal
    from kdlab.teachers.codecs.drawn import Drawing


class DrawingCodec(Codec):
    """A codec of draws: what it keeps of a row is its `drawing`."""

    def drawing(self) -> Drawing:
        raise TypeError(f"{type(self).__name__} does not say what it draws")

    def encode(self, signal: Signal, labels_N: Tensor, *, lengths: Sequence[int], seeds: Sequence[int]) -> list[bytes]:
        from kdlab.teachers.codecs.reading import side_of, spans

        side, drawing = side_of(signal, self.name), self.drawing()
        parts = zip(spans(signal, labels_N, lengths), seeds, strict=True)
        return [drawing.packed(side, span, labels_N, seed) for span, seed in parts]

    def decode(
        self, payloads: Sequence[Payload], *, lengths: Sequence[int], vocabulary: int, head: Projected | None = None
    ) -> Sampled:
        return self.drawing().decoded(payloads, lengths, vocabulary)


@dataclass(kw_only=True)
class SampledCodec(DrawingCodec):
    """`draws` draws from each row with their counts: random-sampling KD (Anshumann et al., 2025), the draws spread
    evenly over the distribution (see `draws`)."""

    draws: int = 50

    name: ClassVar[str] = "sampled"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draws < 1:
            raise ValueError(f"codec.draws={self.draws}: must be at least 1")

    @property
    def bound(self) -> str:
        return f"{self.draws} draws a row: each probability right on average, one draw within 1/{self.draws} of it"

    def bytes_per_row(self, vocabulary: int, hidden: int) -> float:
        return 5.0 + 2.0 * min(vocabulary, 2.2 * math.sqrt(self.draws))

    def drawing(self) -> Drawing:
        from kdlab.teachers.codecs.drawn import Drawing

        return Drawing(head=0, draws=self.draws, temperature=self.temperature)


@dataclass(kw_only=True)
class HeadAndSamplesCodec(DrawingCodec):
    """The `k` most likely entries of each row, and `draws` draws from the others.

    The head's log-probabilities are kept in steps, rounded up or down by chance, so that they too are right on average
    (but for less than one part in 10,000: what they weigh together is set right after rounding).
    """

    k: int = 16
    draws: int = 32

    name: ClassVar[str] = "head_and_samples"

    def __post_init__(self) -> None:
        super().__post_init__()
        for option in ("k", "draws"):
            if getattr(self, option) < 1:
                raise ValueError(f"codec.{option}={getattr(self, option)}: must be at least 1")

    @property
    def bound(self) -> str:
        return (
            f"the {self.k} most likely tokens within {1 / 16:g} nats, all others by {self.draws} draws that are right "
            "on average"
        )

    def bytes_per_row(self, vocabulary: int, hidden: int) -> float:
        head = min(self.k, vocabulary)
        return 10 + 1.8 * head + 1.4 * min(vocabulary - head, self.draws)

    def drawing(self) -> Drawing:
        from kdlab.teachers.codecs.drawn import Drawing

        return Drawing(head=self.k, draws=self.draws, temperature=self.temperature)
