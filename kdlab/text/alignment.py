"""Which tokens of two tokenizers cover the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Tokens as byte ranges: the example each belongs to `[N]`, and where it starts and ends `[N]` (-1: nowhere)."""

    example_N: Tensor
    start_N: Tensor
    end_N: Tensor


def align(student: Stretch, teacher: Stretch) -> tuple[Tensor, Tensor, int]:
    """The span of each token on either side (-1: none), numbered in order, and how many spans there are."""
    raise TypeError("not written yet")
