"""What decoding costs, against dense autograd in float64."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from kdlab.caching import fidelity as module
from kdlab.caching.fidelity import NEAR, fidelity
from kdlab.rows import Dense, Projected, Sampled, TopK

ROWS, VOCABULARY, HIDDEN = 6, 29, 5


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 10)


def teacher(**changes):
    draw = torch.Generator().manual_seed(0)
    side = Projected(
        hidden_NH=torch.randn(ROWS, HIDDEN, generator=draw),
        weight_VH=torch.randn(VOCABULARY, HIDDEN, generator=draw),
    )
    return replace(side, **changes)


def top(side, k, temperature=1.0):
    logp_NV = (side.dense().logits_NV / temperature).log_softmax(1)
    logp_NK, ids_NK = logp_NV.topk(k)
    rest_N = torch.log1p(-logp_NK.exp().sum(1))
    return TopK(ids_NK=ids_NK, logp_NK=logp_NK, rest_N=rest_N, vocabulary=VOCABULARY, temperature=temperature)


def loss(decoded, logits_NV):
    """Forward KL up to a constant, from each signal's definition."""
    temperature = getattr(decoded, "temperature", 1.0)
    logq_NV = logits_NV.log_softmax(1)
    if isinstance(decoded, Sampled):
        return -(decoded.weight_NK.double() * logq_NV.gather(1, decoded.ids_NK)).sum()
    if isinstance(decoded, TopK):
        kept_NK = logq_NV.gather(1, decoded.ids_NK)
        others_N = torch.log1p(-kept_NK.exp().sum(1))
        return -(decoded.logp_NK.double().exp() * kept_NK).sum() - (decoded.rest_N.double().exp() * others_N).sum()
    logits = decoded.logits_NV if isinstance(decoded, Dense) else decoded.dense().logits_NV
    return -((logits.double() / temperature).softmax(1) * logq_NV).sum()


def expected(side, decoded):
    """Errors and angles by autograd, student by student."""
    temperature = getattr(decoded, "temperature", 1.0)
    whole = Dense(logits_NV=side.dense().logits_NV.double() / temperature)
    found = {}
    for name, factor in (("far", 0.0), ("near", 1 / NEAR)):
        gradients = []
        for signal in (whole, decoded):
            weight_VH = torch.zeros(VOCABULARY, HIDDEN, dtype=torch.float64, requires_grad=True)
            logits_NV = whole.logits_NV * factor + side.hidden_NH.double() @ weight_VH.T
            gradients += torch.autograd.grad(loss(signal, logits_NV), weight_VH)
        true, got = gradients
        found[f"gradient_error_{name}"] = float((got - true).norm() / true.norm())
        cosine = float((got * true).sum() / got.norm() / true.norm())
        found[f"gradient_angle_{name}"] = math.degrees(math.acos(min(1.0, cosine)))
    return found


def check(side, decoded):
    found = fidelity(side, decoded)
    assert found == fidelity(side, decoded)
    assert found["rows"] == ROWS
    for name, value in expected(side, decoded).items():
        assert found[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
    return found


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_top_k_with_its_bucket(temperature):
    side = teacher()
    decoded = top(side, 4, temperature)
    found = check(side, decoded)
    logp_NV = (side.dense().logits_NV.double() / temperature).log_softmax(1)
    even_NV = (decoded.rest_N.double() - math.log(VOCABULARY - 4))[:, None].expand(-1, VOCABULARY)
    decoded_NV = even_NV.scatter(1, decoded.ids_NK, decoded.logp_NK.double())
    assert found["kl"] == pytest.approx(float((logp_NV.exp() * (logp_NV - decoded_NV)).sum(1).mean()), rel=1e-4)


def test_everything_kept_costs_nothing():
    side = teacher()
    for decoded in (
        side,
        Dense(logits_NV=side.dense().logits_NV),
        replace(top(side, VOCABULARY), rest_N=torch.full((ROWS,), -torch.inf)),
    ):
        found = fidelity(side, decoded)
        assert found["kl"] == pytest.approx(0, abs=1e-6)
        assert found["gradient_error_far"] == pytest.approx(0, abs=1e-5)
        assert found["gradient_error_near"] == pytest.approx(0, abs=1e-5)


def test_rounded_hidden_states():
    side = teacher(bias_V=torch.linspace(-1, 1, VOCABULARY), scale=0.5, softcap=3.0)
    decoded = replace(side, hidden_NH=(side.hidden_NH * 4).round() / 4)
    found = check(side, decoded)
    logp_NV, other_NV = (s.dense().logits_NV.double().log_softmax(1) for s in (side, decoded))
    assert found["kl"] == pytest.approx(float((logp_NV.exp() * (logp_NV - other_NV)).sum(1).mean()), rel=1e-3)


def test_draws_have_no_kl():
    side = teacher()
    ids_NK = torch.tensor([[0, 12, 28, 0]] * ROWS)
    weight_NK = torch.tensor([[0.5, 0.25, 0.25, 0.0]] * ROWS)
    assert check(side, Sampled(ids_NK=ids_NK, weight_NK=weight_NK, vocabulary=VOCABULARY))["kl"] is None


def test_a_teacher_of_logits_is_judged_by_a_bias():
    side = teacher()
    dense = Dense(logits_NV=side.dense().logits_NV)
    found = fidelity(dense, top(side, 3))
    assert 0 < found["gradient_error_near"] < found["gradient_error_far"] * 50
    assert fidelity(dense, dense)["gradient_error_near"] == 0


def test_no_rows_say_nothing():
    side = teacher(hidden_NH=torch.zeros(0, HIDDEN))
    found = fidelity(side, side)
    assert found.pop("rows") == 0
    assert set(found.values()) == {None}
