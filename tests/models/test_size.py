import pytest
import torch
from torch import nn

from kdlab.models.loading import load_language_model
from kdlab.models.lora import add_lora
from kdlab.models.quantization import QuantizationConfig
from kdlab.models.size import measure
from kdlab.models.student import LoraConfig
from kdlab.models.tiny import save_tiny, tiny_model


def test_a_plain_module():
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
    model[0].bias.requires_grad_(False)
    size = measure(model)
    assert size.parameters == 3 * 5 + 5 + 5 + 5
    assert size.trainable_parameters == 3 * 5 + 5 + 5
    assert size.bytes == 4 * size.parameters + 4 * (5 + 5) + 8  # running mean and variance, the int64 counter
    assert size.as_dict() == {"parameters": 30, "trainable_parameters": 25, "bytes": size.bytes}


def test_tied_weights_count_once_and_half_precision_halves():
    model = tiny_model("llama")
    assert model.config.tie_word_embeddings
    full = measure(model)
    assert full.parameters == model.num_parameters()
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    assert full.bytes == 4 * full.parameters + buffers
    half = measure(model.to(torch.bfloat16))
    assert half.parameters == full.parameters
    assert half.bytes == pytest.approx(full.bytes / 2, rel=0.01)


def test_lora_trains_little():
    adapted = measure(add_lora(tiny_model("llama"), LoraConfig(r=2), seed=0))
    assert 0 < adapted.trainable_parameters < adapted.parameters / 5


@pytest.mark.parametrize(
    ("kind", "package"), [("bnb8", "bitsandbytes"), ("nf4", "bitsandbytes"), ("torchao_int8", "torchao")]
)
def test_packed_weights_count_unpacked_and_weigh_packed(kind, package, tmp_path):
    pytest.importorskip(package)
    folder = str(save_tiny("llama", tmp_path / "m"))
    plain = measure(load_language_model(folder, dtype="float32"))
    packed = measure(load_language_model(folder, dtype="float32", quantization=QuantizationConfig(kind=kind)))
    assert packed.parameters == plain.parameters
    linear = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128)  # entries in the quantised matrices
    saved = (plain.bytes - packed.bytes) / linear  # of the 4 bytes an entry
    assert (3.2 < saved < 3.5) if kind == "nf4" else (2.9 < saved < 3.0)


def test_a_packed_model_weighs_the_same_after_its_first_use(tmp_path):
    pytest.importorskip("bitsandbytes")
    folder = str(save_tiny("llama", tmp_path / "m"))
    model = load_language_model(folder, dtype="float32", quantization=QuantizationConfig(kind="bnb8"))
    before = measure(model)
    model(torch.arange(3, 9)[None])
    assert measure(model) == before
