"""The guard names the step and the examples, and lets a gradient scaler search."""

from __future__ import annotations

import math

import pytest
import torch

from kdlab.batch import Batch
from kdlab.training.callbacks.guard import SHOWN, SKIPS, Guard
from kdlab.training.stopping import NotFinite


def batches(*losses: float, size: int = 2):
    ids = torch.zeros(1, 2, dtype=torch.long)
    return [
        (
            Batch(input_ids_BT=ids, labels_BT=ids, example_ids=tuple(range(10 * i, 10 * i + size))),
            torch.tensor(loss),
        )
        for i, loss in enumerate(losses)
    ]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_loss_names_only_the_examples_of_its_micro_batch(bad):
    with pytest.raises(NotFinite, match=rf"^step 7: the loss is {bad} \(examples 10, 11\)$"):
        Guard().check(bad, 1.0, step=7, batches=batches(0.5, bad, 0.1), scaled=False)


def test_a_bad_gradient_names_all_examples_of_the_step():
    with pytest.raises(NotFinite, match=r"^step 7: the gradient norm is inf \(examples 0, 1, 10, 11\)$"):
        Guard().check(0.6, math.inf, step=7, batches=batches(0.5, 0.1), scaled=False)


def test_long_lists_are_cut():
    with pytest.raises(NotFinite, match=rf"{SHOWN - 1} \.\.\.\)$"):
        Guard().check(math.nan, 1.0, step=1, batches=batches(math.nan, size=SHOWN + 5), scaled=False)


def test_a_scaler_may_skip_for_a_while_but_not_for_ever():
    guard = Guard()
    for _ in range(SKIPS):
        guard.check(0.5, math.inf, step=1, batches=batches(0.5), scaled=True)
    guard.check(0.5, 1.0, step=2, batches=batches(0.5), scaled=True)
    for _ in range(SKIPS):
        guard.check(0.5, math.inf, step=3, batches=batches(0.5), scaled=True)
    with pytest.raises(NotFinite):
        guard.check(0.5, math.inf, step=4, batches=batches(0.5), scaled=True)
    with pytest.raises(NotFinite):
        Guard().check(math.nan, 1.0, step=1, batches=batches(math.nan), scaled=True)
