import peft
import pytest
import torch
from architectures import NAMES, random_ids, random_model
from torch import nn
from transformers import AutoModelForCausalLM

from kdlab.batch import Batch
from kdlab.models.head import SplitModel, document_mask
from kdlab.models.tiny import tiny_model
from kdlab.rows import Dense, Projected


def batch(ids, **more):
    return Batch(input_ids_BT=ids, labels_BT=ids, **more)


def logits(split, ids):
    side = split.project(split.hidden(batch(ids)).flatten(0, 1))
    return (side.dense() if isinstance(side, Projected) else side).logits_NV.view(*ids.shape, -1)


@pytest.mark.parametrize("name", NAMES)
def test_the_split_gives_the_models_own_logits(name):
    model, ids = random_model(name), random_ids()
    split = SplitModel(model)
    assert split.mode == "projected"
    with torch.no_grad():
        torch.testing.assert_close(logits(split, ids), model(ids).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "changes", "scale", "softcap"),
    [
        ("granite", {"logits_scaling": 8.0}, 0.125, None),
        ("cohere", {"logit_scale": 0.25}, 0.25, None),
        ("gemma2", {"final_logit_softcapping": 5.0}, 1.0, 5.0),
        ("gemma2", {"final_logit_softcapping": None}, 1.0, None),
        ("llama", {"logits_scaling": 8.0}, 1.0, None),  # a field this architecture never reads
    ],
)
def test_scale_and_soft_cap_are_found(name, changes, scale, softcap):
    split = SplitModel(random_model(name, **changes))
    assert (split.mode, split.scale, split.softcap) == ("projected", scale, softcap)


def test_a_soft_cap_shows_even_where_the_logits_are_small():
    model = random_model("gemma2", initializer_range=1e-4, final_logit_softcapping=30.0)
    for parameter in model.parameters():
        parameter.data *= 0.05
    assert SplitModel(model).softcap == 30.0


@pytest.mark.parametrize("tied", [True, False])
def test_gradients_reach_body_and_head_as_through_the_whole_model(tied):
    model, ids = random_model("llama", tie_word_embeddings=tied), random_ids()
    whole = torch.autograd.grad(model(ids).logits.square().sum(), list(model.parameters()))
    split = torch.autograd.grad(logits(SplitModel(model), ids).square().sum(), list(model.parameters()))
    for found, wanted in zip(split, whole, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)


def test_the_head_is_the_live_parameter_and_carries_gptjs_bias():
    model = random_model("gptj")
    split = SplitModel(model)
    side = split.project(torch.zeros(3, 32))
    assert side.weight_VH is model.lm_head.weight
    assert side.bias_V is model.lm_head.bias
    assert split.vocabulary == 97


def test_it_works_under_lora_and_follows_the_adapter():
    torch.manual_seed(0)
    model, ids = random_model("llama"), random_ids()
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    split = SplitModel(wrapped)
    assert split.mode == "projected"
    found = logits(split, ids)
    torch.testing.assert_close(found, wrapped(input_ids=ids).logits, rtol=1e-5, atol=1e-5)
    found.sum().backward()
    with_gradient = {name.split(".")[-3] for name, p in wrapped.named_parameters() if p.grad is not None}
    assert with_gradient == {"lora_A", "lora_B"}


def test_an_adapted_head_is_applied_not_described():
    model = random_model("llama", tie_word_embeddings=False)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["lm_head"], task_type="CAUSAL_LM"))
    split, ids = SplitModel(wrapped), random_ids()
    assert split.mode == "head"
    assert isinstance(split.project(torch.zeros(3, 32)), Dense)
    nn.init.normal_(model.lm_head.lora_B["default"].weight)
    torch.testing.assert_close(logits(split, ids), wrapped(input_ids=ids).logits)


def test_a_head_that_does_something_else_falls_back_to_whole_logits(capsys):
    class Odd(type(random_model("llama"))):
        def forward(self, *arguments, **keywords):
            output = super().forward(*arguments, **keywords)
            output.logits = output.logits.sin()
            return output

    model, ids = random_model("llama"), random_ids()
    model.__class__ = Odd
    split = SplitModel(model)
    assert split.mode == "whole"
    assert "Odd: no split into body and head gives its logits" in capsys.readouterr().err
    torch.testing.assert_close(logits(split, ids), model(ids).logits)
    assert split.hidden(batch(ids)).requires_grad


def test_the_check_leaves_modes_gradients_and_random_state_alone():
    model = random_model("gpt2").train()
    model.transformer.h[0].eval()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    SplitModel(model)
    assert torch.equal(torch.rand(2), expected)
    assert model.training
    assert not model.transformer.h[0].training
    assert model.transformer.h[1].attn.attn_dropout.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["llama", "gemma2", "granite"])
def test_half_precision_splits_too(name, dtype):
    split = SplitModel(random_model(name).to(dtype))
    wanted = SplitModel(random_model(name))
    assert (split.mode, split.scale, split.softcap) == ("projected", wanted.scale, wanted.softcap)


@pytest.mark.parametrize("name", NAMES)
def test_packed_documents_do_not_see_each_other(name):
    model = random_model(name)
    split = SplitModel(model)
    first, second = random_ids(1, 5, seed=1), random_ids(1, 7, seed=2)
    packed = batch(torch.cat([first, second], dim=1), position_ids_BT=torch.tensor([[*range(5), *range(7)]]))
    with torch.no_grad():
        together = split.hidden(packed)
        torch.testing.assert_close(together[:, :5], split.hidden(batch(first)), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(together[:, 5:], split.hidden(batch(second)), rtol=1e-4, atol=1e-4)
    assert split.packing == ("mask" if name == "opt" else "positions")


def test_a_model_that_cannot_keep_documents_apart_says_so():
    config = {"vocab_size": 97, "hidden_size": 32, "n_layer": 2, "n_head": 4}
    from transformers import BloomConfig

    torch.manual_seed(0)
    split = SplitModel(AutoModelForCausalLM.from_config(BloomConfig(**config)))
    packed = batch(random_ids(1, 6), position_ids_BT=torch.tensor([[0, 1, 2, 0, 1, 2]]))
    with pytest.raises(ValueError, match=r"dataset.pack=true: BloomForCausalLM cannot keep packed documents apart"):
        split.hidden(packed)


def test_right_padding_changes_no_real_position():
    model, ids = random_model("llama"), random_ids(1, 6)
    split = SplitModel(model)
    padded = torch.cat([ids, torch.zeros(1, 3, dtype=torch.long)], dim=1)
    mask = torch.tensor([[1] * 6 + [0] * 3])
    with torch.no_grad():
        found = split.hidden(batch(padded, attention_mask_BT=mask))[:, :6]
        torch.testing.assert_close(found, split.hidden(batch(ids)), rtol=1e-5, atol=1e-5)


def test_the_document_mask_is_block_triangular():
    mask = document_mask(torch.tensor([[0, 1, 0, 1, 2]]), torch.float32)[0, 0] == 0
    assert mask.int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 1, 1, 1],
    ]


def test_a_tiny_model_splits():
    assert all(SplitModel(tiny_model(kind)).mode == "projected" for kind in ("llama", "gpt2"))
