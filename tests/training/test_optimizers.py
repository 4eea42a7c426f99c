"""Every optimiser with every scheduler; what decays; what is refused."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kdlab.training.optimizers import OPTIMIZERS, SGD, Adafactor, AdamW, AdamW8bit, build_optimizer, parameter_groups
from kdlab.training.schedulers import KINDS, SchedulerConfig, build_scheduler, factor

CPU = torch.device("cpu")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 64))


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_optimiser_takes_three_steps_with_every_scheduler(name, kind):
    if name == "adamw_8bit":
        pytest.importorskip("bitsandbytes")
    model, config = network(), SchedulerConfig(kind=kind, warmup_ratio=0.0 if kind == "constant" else 0.4)
    optimizer = build_optimizer(OPTIMIZERS[name](lr=1e-2), model.named_parameters(), device=CPU)
    scheduler = build_scheduler(config, optimizer, total=3)
    inputs, losses = torch.randn(8, 64), []
    for step in range(3):
        assert {group["lr"] for group in optimizer.param_groups} == {1e-2 * factor(config, step, 3)}
        loss = (model(inputs) - inputs).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    assert (model(inputs) - inputs).square().mean().item() < losses[0]


def test_adamw_is_the_textbook_formula():
    weight = nn.Parameter(torch.tensor([[1.0, -2.0]], dtype=torch.float64))
    optimizer = build_optimizer(AdamW(lr=0.1, weight_decay=0.5), [("weight", weight)], device=CPU)
    gradients = [torch.tensor([[0.3, -4.0]], dtype=torch.float64), torch.tensor([[1.0, 2.0]], dtype=torch.float64)]
    expected, m, v = weight.detach().clone(), 0.0, 0.0
    for t, gradient in enumerate(gradients, start=1):
        weight.grad = gradient.clone()
        optimizer.step()
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        expected = expected * (1 - 0.1 * 0.5)
        expected = expected - 0.1 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    torch.testing.assert_close(weight.detach(), expected)


def test_adafactor_uses_the_given_rate_whatever_the_size_of_the_weights():
    small, large = (nn.Parameter(torch.full((4, 4), value)) for value in (1e-3, 1e3))
    optimizer = build_optimizer(Adafactor(lr=0.5), [("small", small), ("large", large)], device=CPU)
    small.grad = large.grad = torch.ones(4, 4)
    before = small.detach().clone(), large.detach().clone()
    optimizer.step()
    torch.testing.assert_close(before[0] - small.detach(), torch.full((4, 4), 0.5))
    torch.testing.assert_close(before[1] - large.detach(), torch.full((4, 4), 0.5))


def test_biases_and_norms_do_not_decay():
    model = network()
    groups = {group["weight_decay"]: group["params"] for group in parameter_groups(model.named_parameters(), 0.1)}
    assert [p.ndim for p in groups[0.1]] == [2, 2]
    assert [p.ndim for p in groups[0.0]] == [1, 1, 1, 1]


def test_frozen_parameters_are_left_out_and_nothing_to_train_is_refused():
    model = network()
    model[0].requires_grad_(False)
    trained = [p for group in parameter_groups(model.named_parameters(), 0.1) for p in group["params"]]
    assert not any(p is frozen for p in trained for frozen in model[0].parameters())
    with pytest.raises(ValueError, match="no trainable parameter"):
        build_optimizer(SGD(), model.requires_grad_(False).named_parameters(), device=CPU)


def test_8bit_without_bitsandbytes_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ValueError, match=r"optimizer=adamw_8bit: needs bitsandbytes: pip install 'kdlab\[quant\]'"):
        build_optimizer(AdamW8bit(), network().named_parameters(), device=CPU)


def test_8bit_where_it_has_no_kernel_says_so_in_one_line(monkeypatch):
    class Broken:
        def __init__(self, *_: object, **__: object) -> None: ...

        def step(self) -> None:
            raise NotImplementedError("no kernel here\nand a long story")

    broken = SimpleNamespace(optim=SimpleNamespace(AdamW8bit=Broken), __version__="9.9")
    monkeypatch.setitem(sys.modules, "bitsandbytes", broken)
    with pytest.raises(ValueError, match=r"^optimizer=adamw_8bit: .*cpu \(no kernel here\); use optimizer=adamw$"):
        build_optimizer(AdamW8bit(), network().named_parameters(), device=CPU)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (AdamW, {"lr": 0.0}),
        (AdamW, {"weight_decay": -0.1}),
        (AdamW, {"beta1": 1.0}),
        (AdamW, {"eps": 0.0}),
        (SGD, {"momentum": -0.1}),
        (SGD, {"momentum": 0.0, "nesterov": True}),
        (Adafactor, {"clip_threshold": 0.0}),
        (Adafactor, {"decay_rate": 0.8}),
    ],
)
def test_an_impossible_value_is_refused_by_its_option(kind, options):
    with pytest.raises(ValueError, match=r"^optimizer\."):
        kind(**options)
