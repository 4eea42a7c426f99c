"""Drawn tokens: the right distribution, and nothing but the key of a text decides them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from kdlab.answering.drawing import Drawn, uniforms

LOGITS = torch.tensor([2.0, -1.0, 0.5, 1.5, -3.0])


def warped(temperature: float, top_p: float) -> np.ndarray:
    """What should be drawn, in float64: the smallest set of the likeliest tokens that holds top_p, at temperature."""
    p = torch.softmax(LOGITS.double() / temperature, -1).numpy()
    kept, held = np.zeros(len(p), bool), 0.0
    for i in np.argsort(-p):
        if held >= top_p:
            break
        kept[i], held = True, held + p[i]
    return np.where(kept, p, 0) / p[kept].sum()


def draw(keys: list[tuple[int, int, int]], logits_BV: torch.Tensor, *, length: int = 1, **options: float) -> list:
    """The tokens of each text, place after place, with the same logits at every place."""
    processor = Drawn(keys, length=length, **({"temperature": 1.0, "top_p": 1.0} | options))
    ids_BT = torch.zeros(len(keys), 3, dtype=torch.long)
    for _ in range(length):
        scores_BV = processor(ids_BT, logits_BV)
        assert ((scores_BV == 0).sum(-1) == 1).all()
        ids_BT = torch.cat([ids_BT, scores_BV.argmax(-1, keepdim=True)], -1)
    return ids_BT[:, 3:].tolist()


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.7, 1.0), (1.0, 0.9), (1.3, 0.6)])
def test_tokens_are_drawn_as_often_as_they_are_likely(temperature: float, top_p: float) -> None:
    count = 6000
    keys = [(0, row, draw) for row in range(count // 4) for draw in range(4)]
    tokens = draw(keys, LOGITS.expand(count, -1), temperature=temperature, top_p=top_p)
    seen, expected = np.bincount(np.ravel(tokens), minlength=5), count * warped(temperature, top_p)
    possible = expected > 0
    assert (seen[~possible] == 0).all()
    assert possible.sum() > 1
    assert chisquare(seen[possible], expected[possible]).pvalue > 1e-4


def test_the_places_of_one_text_are_independent() -> None:
    (tokens,) = draw([(3, 1, 4)], LOGITS[None], length=4000)
    pairs = np.zeros((5, 5))
    np.add.at(pairs, (tokens[:-1], tokens[1:]), 1)
    p = warped(1.0, 1.0)
    expected = (len(tokens) - 1) * np.outer(p, p)
    likely = expected > 5
    scale = pairs[likely].sum() / expected[likely].sum()
    assert chisquare(pairs[likely], scale * expected[likely]).pvalue > 1e-4


def test_what_else_is_in_a_batch_changes_no_text() -> None:
    keys = [(0, 5, 0), (0, 5, 1), (1, 5, 0), (0, 6, 0)]
    logits_BV = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    together = draw(keys, logits_BV, length=20)
    alone = [draw([key], logits_BV[i : i + 1], length=20)[0] for i, key in enumerate(keys)]
    backwards = draw(keys[::-1], logits_BV.flip(0), length=20)
    assert together == alone == backwards[::-1]
    same = draw(keys, logits_BV[:1].expand(4, -1), length=20)
    assert len({tuple(text) for text in same}) == 4, "seed, row and draw each make another text"


def test_a_longer_text_begins_like_a_shorter_one() -> None:
    assert uniforms((0, 1, 2), 9)[:4].tolist() == uniforms((0, 1, 2), 4).tolist()


def test_the_last_place_of_the_unit_interval_draws_a_token_that_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    top = np.nextafter(1.0, 0.0)
    monkeypatch.setattr("kdlab.answering.drawing.uniforms", lambda key, count: np.full(count, top))
    logits_BV = torch.tensor([[0.0, 1.0, 0.3, -torch.inf], [5.0, -torch.inf, -torch.inf, -torch.inf]])
    assert draw([(0, 0, 0), (0, 1, 0)], logits_BV) == [[2], [0]]
