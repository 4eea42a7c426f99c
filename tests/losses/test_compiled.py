"""`loss.compile`: the same numbers, and a word where there is no compiler."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from loss_cases import all_close, close, every_loss, make, projected_case
from torch._dynamo.exc import TorchDynamoException

from kdlab.losses import compiled


def test_no_compiler_is_said_once_and_costs_nothing_but_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)
    compiled.missing_compiler.cache_clear()
    case = projected_case()
    expected, _ = case.run(make("forward_kl"))
    with pytest.warns(UserWarning, match="loss.compile=true: no C\\+\\+ compiler"):
        out, _ = case.run(make("forward_kl", compile=True))
    close(out.loss, expected.loss)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        case.run(make("reverse_kl", compile=True))
    compiled.missing_compiler.cache_clear()


def test_a_broken_compiler_is_said_once_and_costs_nothing_but_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        def run(*tensors: Any) -> Any:
            raise TorchDynamoException("no header\nand a long story")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(compiled, "_compiled", {})
    monkeypatch.setattr(compiled, "_failed", set())
    monkeypatch.setattr(compiled, "missing_compiler", lambda device_type: None)
    case = projected_case()
    expected, reference = case.run(make("skew_forward", chunk_rows=4))
    with pytest.warns(UserWarning, match=r"loss.compile=true: torch.compile failed \(no header\); the loss"):
        out, gradients = case.run(make("skew_forward", chunk_rows=4, compile=True))
    close(out.loss, expected.loss)
    all_close(gradients, reference)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        case.run(make("skew_forward", chunk_rows=4, compile=True))


def compiled_equals_eager(name: str, hard_weight: float) -> None:
    if compiled.missing_compiler("cpu"):
        pytest.skip("no C++ compiler here")
    options = {"temperature": 2.0, "hard_weight": hard_weight, "chunk_rows": 8}
    for rows in (11, 24):  # a second size compiles nothing anew, and must still be right
        case = projected_case(rows=rows, vocabulary=40, dtype=torch.float32)
        expected, reference = case.run(make(name, **options))
        out, gradients = case.run(make(name, **options, compile=True))
        close(out.loss, expected.loss, 1e-5)
        close(out.divergence, expected.divergence, 1e-4)
        all_close(gradients, reference, 1e-5)


@pytest.mark.slow
def test_compiled_is_eager() -> None:
    compiled_equals_eager("jensen_shannon", 0.3)


@pytest.mark.slow
@every_loss
def test_every_loss_compiled_is_eager(name: str) -> None:
    compiled_equals_eager(name, 0.0)
