"""Bytes of weights, gradients and optimiser state: exact against what is built and against a real first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kdlab.models.loading import load_language_model
from kdlab.models.quantization import QuantizationConfig
from kdlab.models.size import measure
from kdlab.models.student import LoraConfig, StudentConfig, build_student
from kdlab.models.tiny import save_tiny, tiny_model
from kdlab.preflight.weights import gradient_bytes, packable, state_bytes, weight_bytes
from kdlab.training.optimizers import SGD, Adafactor, AdamW, AdamW8bit, OptimizerConfig, build_optimizer


def held(state: Any) -> int:
    """Bytes of the tensors in an optimiser's state."""
    tensors = [value for entry in state.values() for value in entry.values() if isinstance(value, torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("config", [AdamW(), SGD(), SGD(momentum=0.0), Adafactor()], ids=repr)
def test_the_state_is_that_of_a_real_optimiser(kind: str, config: OptimizerConfig) -> None:
    model = tiny_model(kind)
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer = build_optimizer(config, model.named_parameters(), device=torch.device("cpu"))
    optimizer.step()
    assert held(optimizer.state) == state_bytes(config, parameters)
    assert gradient_bytes(parameters) == sum(p.grad.nbytes for p in parameters if p.grad is not None)


def test_narrow_weights_have_narrow_moments() -> None:
    weight = nn.Parameter(torch.zeros(8, 4, dtype=torch.bfloat16))
    assert state_bytes(AdamW(), [weight]) == 2 * 2 * 32 + 4


def test_eight_bits() -> None:
    small, large = nn.Parameter(torch.zeros(4095)), nn.Parameter(torch.zeros(5000))
    assert state_bytes(AdamW8bit(), [small]) == 8 * 4095
    assert state_bytes(AdamW8bit(), [large]) == 2 * 5000 + 2 * 4 * 20 + 2048


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_unpacked_weights_are_what_they_are(kind: str) -> None:
    model = tiny_model(kind)
    held_bytes = sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])
    assert weight_bytes(model, "none") == (held_bytes, True)


def test_packed_weights_by_hand() -> None:
    model = tiny_model("llama")
    whole = weight_bytes(model, "none")[0]
    matrices = packable(model)
    entries, rows = sum(m.weight.numel() for m in matrices), sum(m.weight.shape[0] for m in matrices)
    assert entries == 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128)
    assert weight_bytes(model, "bnb8") == (whole - 4 * entries + entries + 4 * rows, True)
    nf4, exact = weight_bytes(model, "nf4")
    assert exact
    tables = len(matrices) * 4 * (16 + 256)
    assert nf4 == pytest.approx(whole - 4 * entries + entries * (1 / 2 + 1 / 64 + 4 / (64 * 256)) + tables, rel=0.01)
    assert weight_bytes(model, "something", disk_bytes=77) == (77, False)
    assert weight_bytes(model, "torchao_int8")[0] < whole / 2


@pytest.mark.parametrize("lora", [None, LoraConfig(r=4)], ids=["whole", "lora"])
@pytest.mark.parametrize("packed", ["nf4", "bnb8"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5"])
def test_packed_weights_are_those_of_the_model_that_is_built(
    kind: str, packed: str, lora: LoraConfig | None, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    path = str(save_tiny(kind, tmp_path / "base", seed=5))
    plain = build_student(StudentConfig(path=path, lora=lora), None, None, seed=0).model
    if lora is None:
        built = load_language_model(path, dtype="float32", quantization=QuantizationConfig(kind=packed))
    else:
        built = build_student(StudentConfig(path=path, quantization=packed, lora=lora), None, None, seed=0).model
    assert weight_bytes(plain, packed) == (measure(built).bytes, True)
