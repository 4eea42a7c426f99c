"""Texts drawn each by a seed of its own: neither the texts beside it in a batch nor those before it change one.

A token is drawn by inversion: with u uniform in [0, 1) and c the cumulated probabilities in the order of the ids, it is
the first i with c_i > u. The u of a text come from (seed, row, draw) alone, one for each place in it.

Shape letters: B batch, T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor, TemperatureLogitsWarper, TopPLogitsWarper

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Drawn(LogitsProcessor):  # type: ignore[misc]
    """Draws the next token of every text at `temperature`, from the most likely tokens that hold `top_p` of the
    probability. Greedy search over its scores takes what was drawn: all others are -inf.

    Args:
        keys: of each text of the batch, the whole numbers (seed, row, draw) that its randomness comes from.
        length: how many tokens a text may have.
    """

    def __init__(self, keys: Sequence[Sequence[int]], *, length: int, temperature: float, top_p: float) -> None:
        self._uniform_BT = torch.from_numpy(np.stack([uniforms(key, length) for key in keys]))
        self._begun: int | None = None
        self._warpers = [TemperatureLogitsWarper(temperature)] if temperature != 1 else []
        self._warpers += [TopPLogitsWarper(top_p)] if top_p < 1 else []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`input_ids` `[B, T]` so far, `scores` `[B, V]` of the next token: the drawn one's is 0."""
        if self._begun is None:
            self._begun = input_ids.shape[1]
        place = input_ids.shape[1] - self._begun
        for warp in self._warpers:
            scores = warp(input_ids, scores)
        # on the CPU, in float64: a sum over a whole vocabulary in float32 would lose the rarest tokens
        cumulated_BV = scores.cpu().double().softmax(-1).cumsum(-1)
        all_B1 = cumulated_BV[:, -1:]
        wanted_B1 = self._uniform_BT[:, place : place + 1] * all_B1
        wanted_B1 = torch.minimum(wanted_B1, torch.nextafter(all_B1, torch.zeros_like(all_B1)))  # it may round up
        drawn_B1 = torch.searchsorted(cumulated_BV, wanted_B1, right=True)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn_B1.to(scores.device), 0.0)


def uniforms(key: Sequence[int], count: int) -> NDArray[np.float64]:
    """The first `count` numbers in [0, 1) of a key: a longer series begins with a shorter one."""
    return np.random.default_rng(list(key)).random(count)
