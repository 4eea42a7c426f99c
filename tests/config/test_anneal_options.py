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
        (["quantization=nf4"], "quantization=nf4: tiny:llama is made in memory and cannot be quantised"),
    ],
)
def test_a_mistake_is_named_as_typed(given: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load("train", ["experiment=smoke", *given])
    assert str(caught.value).startswith(message)
