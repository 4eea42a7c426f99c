"""The losses' options: what is refused, how it is said, and that naming a loss costs no torch import."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from kdlab.losses import LOSSES

NAMES = [
    "adaptive_kl",
    "alpha_beta",
    "forward_kl",
    "hard",
    "jensen_shannon",
    "logit_mse",
    "reverse_kl",
    "skew_forward",
    "skew_reverse",
    "symmetric",
    "total_variation",
]


def test_the_table() -> None:
    assert sorted(LOSSES) == NAMES
    assert len(set(LOSSES.values())) == len(LOSSES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("temperature", 0.0),
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("hard_weight", -0.1),
        ("hard_weight", 1.1),
        ("chunk_rows", 0),
        ("chunk_rows", -5),
        ("chunk_rows", 2.5),
        ("chunk_rows", True),
        ("chunk_rows", "many"),
    ],
)
def test_impossible_common_values_are_refused(name: str, option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^loss.{option}="):
        LOSSES[name](**{option: value})


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("hard", "hard_weight", 0.5),
        ("symmetric", "forward_weight", 1.5),
        ("jensen_shannon", "teacher_weight", 0.0),
        ("jensen_shannon", "teacher_weight", 1.0),
        ("skew_forward", "alpha", 0.0),
        ("skew_reverse", "alpha", 1.0),
        ("adaptive_kl", "head_mass", 0.0),
        ("adaptive_kl", "head_mass", 1.0),
        ("alpha_beta", "alpha", float("inf")),
        ("alpha_beta", "beta", float("nan")),
        ("alpha_beta", "beta", 1e-4),
        ("alpha_beta", "alpha", -0.7 + 1e-4),
    ],
)
def test_impossible_own_values_are_refused(name: str, option: str, value: float) -> None:
    with pytest.raises(ValueError, match=r"^loss\.") as caught:
        LOSSES[name](**{option: value})
    assert option in str(caught.value)
    assert "\n" not in str(caught.value)


def test_t2_is_on_in_the_kl_family_only() -> None:
    on = {name for name, Loss in LOSSES.items() if Loss().t2_scale}
    assert on == {"forward_kl", "reverse_kl", "symmetric", "skew_forward", "skew_reverse", "adaptive_kl"}


def test_naming_losses_imports_no_torch() -> None:
    code = "import sys, kdlab.losses as k; [L() for L in k.LOSSES.values()]; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
