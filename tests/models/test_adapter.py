"""Adapters: a LoRA classifier with its head, and a folder of an adapter in the place of a model."""

from __future__ import annotations

import json
import re

import pytest
import torch
from architectures import random_ids
from classifiers import OTHER, TASK, decisions, save_classifier, shaken
from peft import AutoPeftModelForSequenceClassification, PeftModel
from transformers import AutoModelForSequenceClassification

from kdlab.config.families import kind_of
from kdlab.models.classifier import head_names, is_classifier, load_classifier, split_of
from kdlab.models.loading import load_language_model, load_tokenizer
from kdlab.models.quantization import QuantizationConfig
from kdlab.models.source import disk_bytes, resolve
from kdlab.models.student import CutConfig, LoraConfig, StudentConfig, build_student
from kdlab.models.tiny import save_tiny
from kdlab.models.weights_hash import source_hash
from kdlab.models.writing import save_adapter, save_student
from kdlab.teachers.live import load_teacher
from kdlab.teachers.options import TeacherConfig
from kdlab.text.task import read_task

KINDS = ("llama", "gpt2", "bert")
every_kind = pytest.mark.parametrize("kind", KINDS)
PACKED = [("bnb8", "bitsandbytes"), ("nf4", "bitsandbytes"), ("torchao_int8", "torchao")]


def logits(model, batch=None):
    with torch.no_grad():
        return split_of(model).hidden(batch or decisions())[:, 0]


def trained(base, folder, *, task=TASK, quantization="none", seed=0):
    """A LoRA classifier on `base`, trained by a shake, with its `adapter/` and `model/` in `folder`."""
    config = StudentConfig(path=str(base), lora=LoraConfig(r=2, alpha=8), quantization=quantization)
    student = build_student(config, None, None, seed=seed, task=task)
    shaken(student.model)
    save_adapter(student.model, folder / "adapter", student.tokenizer, task)
    save_student(student.model, student.tokenizer, folder / "model", task)
    return student.model


@every_kind
def test_the_head_is_trained_whole_and_all_linear_layers_are_adapted(kind, tmp_path):
    base = save_tiny(kind, tmp_path / "base")
    model = build_student(StudentConfig(path=str(base), lora=LoraConfig(r=2)), None, None, seed=0, task=TASK).model
    trains = {name for name, p in model.named_parameters() if p.requires_grad}
    inner = model.get_base_model()
    heads = {f"base_model.model.{name}.modules_to_save.default" for name in head_names(inner)}
    assert {name for name in trains if "lora_" not in name} == {
        name for name, _ in model.named_parameters() if name.startswith(tuple(f"{head}." for head in heads))
    }
    adapted = {name.partition(".lora_")[0] for name in trains if "lora_" in name}
    linear = {
        name
        for name, module in AutoModelForSequenceClassification.from_pretrained(base).named_modules()
        if type(module).__name__ in ("Linear", "Conv1D") and not name.startswith(tuple(head_names(inner)))
    }
    assert {name.removeprefix("base_model.model.") for name in adapted} == linear


@every_kind
def test_what_is_saved_decides_as_what_was_trained(kind, tmp_path):
    """Oracle: transformers reads model/, peft reads adapter/ by itself and on a base that is given."""
    base = save_tiny(kind, tmp_path / "base")
    model = trained(base, tmp_path)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    wanted = logits(model)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(logits(plain), wanted, rtol=1e-4, atol=1e-4)
    assert not [name for name in plain.state_dict() if "lora" in name or "modules_to_save" in name]
    by_itself = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "adapter", num_labels=3)
    by_itself.config.pad_token_id = by_itself.get_base_model().config.pad_token_id = 0
    torch.testing.assert_close(logits(by_itself), wanted, rtol=1e-5, atol=1e-5)
    under = load_classifier(str(base), task=TASK, fresh_head=True, dtype="float32", seed=99)
    torch.testing.assert_close(
        logits(PeftModel.from_pretrained(under, tmp_path / "adapter").eval()), wanted, rtol=1e-5, atol=1e-5
    )
    told = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == str(base)
    assert told["task_type"] == "SEQ_CLS"
    assert read_task(tmp_path / "adapter") == read_task(tmp_path / "model") == TASK


@every_kind
def test_an_adapter_folder_is_a_teacher_and_a_student(kind, tmp_path):
    wanted = logits(trained(save_tiny(kind, tmp_path / "base"), tmp_path))
    path = str(tmp_path / "adapter")
    teacher = load_teacher(TeacherConfig(path=path, dtype="float32"), task=TASK)
    torch.testing.assert_close(logits(teacher.model), wanted, rtol=1e-4, atol=1e-4)
    assert not hasattr(teacher.model, "peft_config")
    student = build_student(StudentConfig(path=path), None, None, seed=7, task=TASK)
    torch.testing.assert_close(logits(student.model.eval()), wanted, rtol=1e-4, atol=1e-4)
    assert all(p.requires_grad for p in student.model.parameters())
    cut = build_student(
        StudentConfig(from_teacher=CutConfig(layers=1)), teacher.model, teacher.tokenizer, seed=0, task=TASK
    )
    assert logits(cut.model.eval()).shape == (3, 3)


def test_an_adapter_on_a_tiny_model(tmp_path):
    wanted = logits(trained("tiny:llama", tmp_path))
    teacher = load_teacher(TeacherConfig(path=str(tmp_path / "adapter"), dtype="float32"), task=TASK)
    torch.testing.assert_close(logits(teacher.model), wanted, rtol=1e-4, atol=1e-4)


def test_an_adapter_of_a_language_model(tmp_path):
    for base in ("tiny:llama", str(save_tiny("llama", tmp_path / "base"))):
        config = StudentConfig(path=base, lora=LoraConfig(r=2, alpha=8))
        student = build_student(config, None, None, seed=0).model
        shaken(student)
        save_adapter(student, tmp_path / "adapter")
        ids = random_ids()
        with torch.no_grad():
            wanted = student(input_ids=ids).logits
            again = load_language_model(str(tmp_path / "adapter"), dtype="float32")
            torch.testing.assert_close(again(ids).logits, wanted, rtol=1e-4, atol=1e-3)
        assert not is_classifier(again)
        assert load_tokenizer(str(tmp_path / "adapter")).get_vocab()["<eos>"] == 2
        assert kind_of(str(tmp_path / "adapter")) == "causal"
        with pytest.raises(ValueError, match="an adapter of a model that writes text; merge"):
            load_classifier(str(tmp_path / "adapter"), task=TASK, fresh_head=True)


@pytest.mark.parametrize(("packing", "package"), PACKED)
def test_an_adapter_over_packed_weights(packing, package, tmp_path):
    """QLoRA: read again over weights packed the same way, it is what was trained; model/ is near it."""
    pytest.importorskip(package)
    base = save_tiny("llama", tmp_path / "base")
    model = trained(base, tmp_path, quantization=packing)
    head = model.get_base_model().score.modules_to_save["default"]
    assert type(head.weight) is torch.nn.Parameter
    assert head.weight.dtype == torch.float32
    assert head.weight.requires_grad
    wanted = logits(model)
    path = str(tmp_path / "adapter")
    teacher = load_teacher(TeacherConfig(path=path, dtype="float32"), QuantizationConfig(kind=packing), task=TASK)
    assert isinstance(teacher.model, PeftModel)
    assert not [p for p in teacher.model.parameters() if p.requires_grad]
    torch.testing.assert_close(logits(teacher.model), wanted, rtol=1e-4, atol=1e-4)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert getattr(plain.config, "quantization_config", None) is None
    assert torch.equal(plain.score.weight, head.weight)
    assert (logits(plain) - wanted).norm() / wanted.norm() < 0.6
    cut = build_student(
        StudentConfig(from_teacher=CutConfig(layers=2)), teacher.model, teacher.tokenizer, seed=0, task=TASK
    )
    torch.testing.assert_close(logits(cut.model.eval()), logits(plain), rtol=0.05, atol=0.2)


def test_its_identity_and_size_are_those_of_both(tmp_path):
    base = save_tiny("llama", tmp_path / "base")
    trained(base, tmp_path / "a")
    trained(base, tmp_path / "b", seed=1)
    first, second = (resolve(str(tmp_path / name / "adapter")) for name in "ab")
    assert source_hash(first) != source_hash(second)
    before = source_hash(first)
    assert disk_bytes(first) == sum(
        (folder / name).stat().st_size
        for folder, name in ((base, "model.safetensors"), (tmp_path / "a/adapter", "adapter_model.safetensors"))
    )
    assert str(base) in first.description
    assert "adapter" in first.description
    config = base / "config.json"
    config.write_text(config.read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'))
    assert source_hash(first) != before


def refused(path, *, task=TASK, kind=ValueError):
    with pytest.raises(kind, match=re.escape(f"teacher.path={path}")) as caught:
        load_teacher(TeacherConfig(path=str(path)), task=task)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_base_that_is_gone_is_named_with_its_adapter(tmp_path):
    base = save_tiny("llama", tmp_path / "base")
    trained(base, tmp_path)
    base.rename(tmp_path / "elsewhere")
    said = refused(tmp_path / "adapter", kind=FileNotFoundError)
    assert f"an adapter of {base}, which is not found" in said


def test_adapters_that_cannot_be_read_are_refused(tmp_path):
    base = save_tiny("llama", tmp_path / "base")
    trained(base, tmp_path)
    adapter = tmp_path / "adapter"
    assert "[low, mid, high]" in refused(adapter, task=OTHER)
    config = adapter / "adapter_config.json"
    told = json.loads(config.read_text())

    config.write_text(json.dumps(told | {"base_model_name_or_path": None}))
    assert f"give the merged model, {tmp_path / 'model'}" in refused(adapter)
    config.write_text(json.dumps(told | {"base_model_name_or_path": str(adapter)}))
    assert "an adapter" in refused(adapter)
    config.write_text("{")
    assert "not valid JSON" in refused(adapter)
    other = save_tiny("gpt2", tmp_path / "other")
    config.write_text(json.dumps(told | {"base_model_name_or_path": str(other)}))
    assert "does not fit its base model" in refused(adapter)
    config.write_text(json.dumps(told))
    (adapter / "adapter_model.safetensors").unlink()
    assert "without adapter_model.safetensors" in refused(adapter)


def test_an_adapter_whose_head_is_not_all_there_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    trained(save_tiny("bert", tmp_path / "base"), tmp_path)
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = {name: weight for name, weight in load_file(file).items() if "pooler" not in name}
    save_file(weights, file, {"format": "pt"})
    assert "lacks 'base_model.model.bert.pooler" in refused(tmp_path / "adapter")


def test_no_adapter_upon_an_adapter(tmp_path):
    trained("tiny:llama", tmp_path)
    config = StudentConfig(path=str(tmp_path / "adapter"), lora=LoraConfig(r=2))
    with pytest.raises(ValueError, match=r"an adapter, and student\.lora would put another upon it.*merged"):
        build_student(config, None, None, seed=0, task=TASK)


def test_an_adapter_of_a_classifier_writes_no_text(tmp_path):
    trained("tiny:llama", tmp_path)
    with pytest.raises(ValueError, match="an adapter of a classifier, which writes no text"):
        load_language_model(str(tmp_path / "adapter"), option="model.path")


@pytest.mark.parametrize("modules", [["q_proj", "score"], ["score"]])
def test_the_head_is_no_target(modules):
    config = StudentConfig(path="tiny:llama", lora=LoraConfig(target_modules=modules))
    with pytest.raises(ValueError, match="score is trained whole; leave it out"):
        build_student(config, None, None, seed=0, task=TASK)


def test_a_trained_classifier_is_a_base_too(tmp_path):
    """A second LoRA on a saved classifier begins with its head."""
    base = save_classifier("llama", tmp_path / "base", seed=4)
    config = StudentConfig(path=str(base), lora=LoraConfig(r=2))
    student = build_student(config, None, None, seed=0, task=TASK)
    plain = AutoModelForSequenceClassification.from_pretrained(base)
    assert torch.equal(logits(student.model.eval()), logits(plain))
