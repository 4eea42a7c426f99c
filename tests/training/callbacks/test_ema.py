"""The moving average is its formula, skips what is frozen, and gives the weights back."""

from __future__ import annotations

import torch
from torch import nn

from kdlab.training.callbacks.ema import Ema


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].requires_grad_(False)
    return model


def test_the_formula_with_its_slow_beginning():
    model, ema = network(), Ema(0.5)
    ema.begin(model)
    expected = model[0].weight.detach().clone()
    for n in range(1, 30):
        with torch.no_grad():
            model[0].weight.add_(0.1 * n)
        ema.update(model)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * model[0].weight.detach()
    torch.testing.assert_close(ema.average["0.weight"], expected)
    assert set(ema.average) == {"0.weight", "0.bias"}


def test_applied_lends_the_average_and_gives_the_weights_back_bit_for_bit():
    model, ema = network(), Ema(0.9)
    ema.begin(model)
    with torch.no_grad():
        model[0].weight.add_(1 / 3)
    ema.update(model)
    live = model[0].weight.detach().clone()
    with ema.applied(model):
        assert torch.equal(model[0].weight, ema.average["0.weight"])
    assert torch.equal(model[0].weight, live)


def test_a_loaded_average_is_kept_when_training_begins():
    first, model = Ema(0.9), network()
    first.begin(model)
    first.average["0.bias"].fill_(7.0)
    second = Ema(0.9)
    second.load_state_dict(first.state_dict())
    second.begin(model)
    assert second.average["0.bias"].tolist() == [7.0] * 3
    second.average["0.bias"].fill_(8.0)
    assert first.average["0.bias"].tolist() == [7.0] * 3
