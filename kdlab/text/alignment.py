"""Which tokens of two tokenizers cover the same bytes.

Shape letters: N tokens of the student, M of the teacher, E edges, C common edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Tokens as byte ranges: the example each belongs to `[N]`, rising, and where it starts and ends `[N]` (-1:
    nowhere). Within an example the ranges rise and do not overlap."""

    example_N: Tensor
    start_N: Tensor
    end_N: Tensor


def align(student: Stretch, teacher: Stretch) -> tuple[Tensor, Tensor, int]:
    """The span of each token on either side (-1: none), numbered in order, and how many spans there are.

    Within an example, a span lies between two neighbouring byte positions at which a token of either side ends or
    begins. It is kept where the tokens given cover it wholly on both sides: the tokens at its edges may be missing, as
    a text's first, which nothing predicts, or those behind the end of an example that was cut. So a span's tokens
    spell the same bytes on both sides, every token is in at most one span, and no kept span has smaller ones in it.

    Returns `[N]`, `[M]` and the count. Kept spans are numbered 0 to count - 1 in the order of the tokens, alike on both
    sides. No loop over tokens or examples: a sort of the edges and binary searches.
    """
    import torch

    wide = 2 + int(max([0] + [int(side.end_N.max()) for side in (student, teacher) if len(side.end_N)]))
    ours, theirs = _Keys(student, wide), _Keys(teacher, wide)
    edges_C = ours.edges_E[torch.isin(ours.edges_E, theirs.edges_E, assume_unique=True)]
    if len(edges_C) < 2:
        return torch.full_like(student.start_N, -1), torch.full_like(teacher.start_N, -1), 0
    whole = ours.covers(edges_C) & theirs.covers(edges_C)
    number = torch.where(whole, whole.cumsum(0) - 1, -1)
    return ours.numbers(edges_C, number), theirs.numbers(edges_C, number), int(whole.sum())


class _Keys:
    """The tokens of one side that lie somewhere, as ranges on one axis: example * wide + byte."""

    def __init__(self, side: Stretch, wide: int) -> None:
        import torch

        self.somewhere_N = side.start_N >= 0
        offset = side.example_N[self.somewhere_N].long() * wide
        self.start = offset + side.start_N[self.somewhere_N]
        self.end = offset + side.end_N[self.somewhere_N]
        self.edges_E = torch.unique(torch.cat([self.start, self.end]))

    def covers(self, edges_C: Tensor) -> Tensor:
        """Whether the tokens leave no byte out between each edge and the next `[C - 1]`."""
        import torch

        inside, span = self._inside(edges_C)
        sizes = (self.end - self.start)[inside]
        covered = torch.zeros_like(edges_C[:-1]).index_add_(0, span[inside], sizes)
        return covered == edges_C.diff()

    def numbers(self, edges_C: Tensor, number: Tensor) -> Tensor:
        """The number of the span that each token lies in `[N]`."""
        import torch

        inside, span = self._inside(edges_C)
        numbers_N = torch.full_like(self.somewhere_N, -1, dtype=torch.long)
        numbers_N[self.somewhere_N] = torch.where(inside, number[span], -1)
        return numbers_N

    def _inside(self, edges_C: Tensor) -> tuple[Tensor, Tensor]:
        """Which tokens lie between two neighbouring edges, and the index of the first of these."""
        import torch

        span = torch.searchsorted(edges_C, self.start, right=True) - 1
        held = (span >= 0) & (span < len(edges_C) - 1)
        span = span.clamp(0, len(edges_C) - 2)
        return held & (self.end <= edges_C[span + 1]), span
