"""What a variant is measured by: against the same model it is the same, and what is not finite proves nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kdlab.exporting.examples import Examples
from kdlab.exporting.variants import Variant, open_variant
from kdlab.exporting.verify import verify

IDS = [[65, 66, 67, 68, 69][: 2 + i % 4] for i in range(8)]


def rows(labels: list[int] | None = None) -> Examples:
    return Examples(ids=IDS, labels=None if labels is None else np.array(labels), calibration=[], what="rows")


def opened(folder: Path, *, spoil: float | None = None) -> Variant:
    """The model, with one number of its first weight replaced."""
    variant = open_variant(folder)
    if spoil is not None:
        model = variant.model  # type: ignore[attr-defined]
        with torch.no_grad():
            model.get_input_embeddings().weight[65, 0] = spoil
    return variant


def test_a_model_agrees_with_itself(classifier: Path) -> None:
    labels = [0, 1, 2, 0, 1, 2, 0, 1]
    original, variant = verify(opened(classifier), opened(classifier), rows(labels), batch_size=3, latency_examples=2)
    assert (variant["agreement"], variant["kl"]) == (1.0, 0.0)
    assert variant["accuracy"] == original["accuracy"]
    assert variant["examples"] == len(IDS)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "spoilt"), [("classifier", "the original's"), ("causal", "its")])
def test_logits_that_are_not_finite_are_refused(request: pytest.FixtureRequest, kind: str, spoilt: str) -> None:
    folder = request.getfixturevalue(kind)
    pair = [opened(folder, spoil=float("nan") if spoilt == who else None) for who in ("the original's", "its")]
    with pytest.raises(ValueError, match=rf"^{spoilt} logits are not finite"):
        verify(pair[0], pair[1], rows(), batch_size=3, latency_examples=2)
