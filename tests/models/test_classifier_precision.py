"""How a classifier computes: what trains, in which precision the head answers, and what packing leaves as it is."""

from __future__ import annotations

import pytest
import torch
from classifiers import TASK, decisions, every_kind, logits, save_classifier, shaken

from kdlab.models.classifier import head_names, load_classifier, split_of
from kdlab.models.quantization import QuantizationConfig
from kdlab.models.student import LoraConfig, StudentConfig, build_student
from kdlab.teachers.live import load_teacher
from kdlab.teachers.options import TeacherConfig


@every_kind
@pytest.mark.parametrize("lora", [None, LoraConfig(r=2)])
def test_checkpointing_and_autocast_reach_every_weight_that_trains(kind, lora):
    student = build_student(StudentConfig(path=f"tiny:{kind}", lora=lora), None, None, seed=0, task=TASK).model
    batch = decisions()

    def gradients():
        student.zero_grad()
        split_of(student).hidden(batch).float().pow(2).sum().backward()
        return {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}

    for module in student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    plain = gradients()
    heads = [name for name in plain if "score" in name or "classifier" in name]
    assert heads
    assert all(plain[name].abs().sum() > 0 for name in heads)
    student.activation_checkpointing_enable({"use_reentrant": False})
    again = gradients()
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-4, atol=1e-5, msg=name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(gradient.isfinite().all() for gradient in gradients().values())


@every_kind
@pytest.mark.parametrize("lora", [None, LoraConfig(r=2)])
@pytest.mark.parametrize("narrow", ["autocast", "weights"])
def test_the_head_answers_in_float32_whatever_the_body_is_in(kind, lora, narrow):
    """Oracle: the head's last product in float32, of what the body gave it."""
    student = build_student(StudentConfig(path=f"tiny:{kind}", lora=lora), None, None, seed=0, task=TASK)
    model = shaken(student.model)
    exact = logits(model, decisions())
    if narrow == "weights":
        model.to(torch.bfloat16)
    read = []
    last = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 3][-1]
    handle = last.register_forward_hook(lambda _, inputs, output: read.append(inputs[0]))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow == "autocast"):
        told = logits(model, decisions())
    handle.remove()
    assert told.dtype == torch.float32
    bias = None if last.bias is None else last.bias.float()
    wanted = torch.nn.functional.linear(read[0].float(), last.weight.float(), bias)
    if wanted.ndim == 3:  # a decoder answers at every token, and decides at the last one of the row
        wanted = wanted[torch.arange(3), decisions().attention_mask_BT.sum(1) - 1]
    torch.testing.assert_close(told, wanted, rtol=1e-6, atol=1e-6)
    assert not torch.equal(told, told.bfloat16().float())
    assert (told - exact).norm() < 0.06 * exact.norm()
    assert not any(module._forward_hooks for module in model.modules() if isinstance(module, torch.nn.Linear))


@every_kind
@pytest.mark.parametrize(
    ("packing", "package", "near"),
    [("bnb8", "bitsandbytes", 0.05), ("nf4", "bitsandbytes", 0.6), ("torchao_int8", "torchao", 0.05)],
)
def test_packing_spares_the_head(kind, packing, package, near, tmp_path):
    pytest.importorskip(package)
    folder = str(save_classifier(kind, tmp_path))
    plain = load_teacher(TeacherConfig(path=folder, dtype="float32"), task=TASK)
    if packing == "torchao_int8" and kind == "gpt2":
        with pytest.raises(ValueError, match="can pack none of the layers"):
            load_teacher(TeacherConfig(path=folder), QuantizationConfig(kind=packing), task=TASK)
        return
    packed = load_teacher(TeacherConfig(path=folder, dtype="float32"), QuantizationConfig(kind=packing), task=TASK)
    for head in head_names(packed.model):
        for name, weight in packed.model.get_submodule(head).named_parameters():
            assert type(weight) is torch.nn.Parameter, name
            assert torch.equal(weight, plain.model.get_submodule(head).get_parameter(name))
    batch = decisions()
    wanted = logits(plain.model, batch)
    distance = (logits(packed.model, batch) - wanted).norm() / wanted.norm()
    assert 0 < distance < near


def test_a_classifier_stays_in_no_gguf_blocks():
    with pytest.raises(ValueError, match="quantization=gguf holds models that write text"):
        load_classifier("x.gguf", task=TASK, fresh_head=True, quantization=QuantizationConfig(kind="gguf"))
