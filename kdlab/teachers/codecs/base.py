"""Codec: what is kept of a teacher's predictions, and how it lies on disk. Importable without torch.

An entry is one example's rows. `encode` makes its bytes, `decode` reads many entries at once into one signal, by whole
arrays and never row by row. What all entries share (the head of `hidden`) lies once beside the shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

    from kdlab.rows import Projected, Signal

Payload = bytes | memoryview


@dataclass(kw_only=True)
class Codec:
    """`temperature` is that of the log-probabilities kept; a codec that keeps `whole` distributions has none of its
    own, and any loss may read it at any temperature."""

    temperature: float = 1.0

    name: ClassVar[str]
    """The option that chooses it: `codec=<name>`."""
    version: ClassVar[int] = 1
    """Raised when the bytes change their meaning: older caches are then refused."""
    whole: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"codec.temperature={self.temperature}: must be > 0 and finite")
        if self.whole and self.temperature != 1:
            raise ValueError(
                f"codec.temperature={self.temperature}: codec={self.name} keeps the whole distribution, which a loss "
                "reads at any temperature; drop it"
            )

    @property
    def bound(self) -> str:
        """In one phrase for people: how far what is decoded may be from what the teacher said."""
        raise TypeError(f"{type(self).__name__} does not say its bound")

    def bytes_per_row(self, vocabulary: int, hidden: int) -> float:
        """About how many bytes a row takes, for a teacher with these sizes; said before anything is computed."""
        raise TypeError(f"{type(self).__name__} does not say its size")

    def encode(self, signal: Signal, labels_N: Tensor, *, lengths: Sequence[int], seeds: Sequence[int]) -> list[bytes]:
        """The bytes of each entry; `signal` has the rows of all, one entry after the other, `lengths` of them each.
        `seeds` decide an entry's random draws: the same seed and rows give the same bytes.

        Raises ValueError where the signal does not hold what the codec keeps.
        """
        raise TypeError(f"{type(self).__name__} does not define encode()")

    def decode(
        self, payloads: Sequence[Payload], *, lengths: Sequence[int], vocabulary: int, head: Projected | None = None
    ) -> Signal:
        """The rows of these entries, one after the other, on the CPU. `head` has no rows, and the weight of a `hidden`
        cache. Raises ValueError for bytes that no `encode` wrote."""
        raise TypeError(f"{type(self).__name__} does not define decode()")
