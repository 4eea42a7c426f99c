"""Options that move: typed on the command line, and refused as typed."""

from __future__ import annotations

import pytest

from kdlab.config import ConfigError, load


@pytest.mark.parametrize("loss", ["forward_kl", "uld_hybrid"])
def test_an_anneal_of_the_loss_is_set_option_by_option(loss: str) -> None:
    given = ["experiment=smoke", f"loss={loss}", "loss.temperature_anneal.to=2", "loss.temperature_anneal.start=0.5"]
    anneal = load("train", given).config.loss.temperature_anneal
    assert anneal is not None
    assert (anneal.to, anneal.start) == (2.0, 0.5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["inner=hidden", "inner.hidden.anneal.shape=cos"], "inner.hidden.anneal.shape=cos: must be one of"),
        (["loss.hard_weight_anneal.start=2"], "loss.hard_weight_anneal.start=2: shares of training"),
        (
            ["loss.temperature_anneal=3"],
            "loss.temperature_anneal=3: is a group; write loss.temperature_anneal.to=3\nThe options",
        ),
        (
            ["loss=uld", "loss.temperature_anneal.t=1"],
            "loss.temperature_anneal.t=1: unknown option loss.temperature_anneal.t\n",
        ),
        (["loss.temperature_anneal.to=x"], "loss.temperature_anneal.to=x: must be a number"),
        (
            ["inner=hidden", "inner.hidden.anneal=3"],
            "inner.hidden.anneal=3: is a group; write inner.hidden.anneal.to=3",
        ),
        (["inner=hidden", "inner.hidden.anneal.t=1"], "inner.hidden.anneal.t=1: unknown option inner.hidden.anneal.t"),
        (["quantization=nf4"], "quantization=nf4: tiny:llama is made in memory and cannot be quantised"),
    ],
)
def test_a_mistake_is_named_as_typed(given: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load("train", ["experiment=smoke", *given])
    assert str(caught.value).startswith(message)


def test_an_unknown_option_of_an_anneal_is_answered_with_those_it_has() -> None:
    with pytest.raises(ConfigError, match=r"The options of loss.temperature_anneal: end, shape, start, to"):
        load("train", ["experiment=smoke", "loss.temperature_anneal.t=1"])
