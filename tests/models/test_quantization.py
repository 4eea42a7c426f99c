"""Packed weights: what runs on a CPU runs, and what cannot is refused in one line that names the remedy."""

from __future__ import annotations

import importlib.util
import json
import sys
import types

import pytest
import torch
from architectures import random_ids

from kdlab.batch import Batch
from kdlab.losses import LOSSES
from kdlab.losses.engine import row_loss
from kdlab.models.head import SplitModel
from kdlab.models.loading import load_language_model
from kdlab.models.quantization import PACKAGES, QuantizationConfig, lacking, loading_options
from kdlab.models.size import measure
from kdlab.models.student import CutConfig, LoraConfig, StudentConfig, build_student
from kdlab.models.tiny import byte_tokenizer, save_tiny, tiny_model
from kdlab.models.writing import merged, save_adapter, save_student
from kdlab.teachers.live import load_teacher
from kdlab.teachers.options import TeacherConfig
from kdlab.training.pair import ModelPair

KINDS = [("bnb8", "bitsandbytes"), ("nf4", "bitsandbytes"), ("torchao_int8", "torchao")]
on_cpu = pytest.mark.parametrize(("kind", "package"), KINDS)


@pytest.fixture
def folder(tmp_path):
    return save_tiny("llama", tmp_path / "m")


def says_packed(folder, method, **more):
    """Let a checkpoint's config say that its weights are packed."""
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, **more}
    (folder / "config.json").write_text(json.dumps(config))


@on_cpu
def test_a_packed_teacher_teaches_nearly_as_the_plain_one(folder, kind, package):
    pytest.importorskip(package)
    plain = load_teacher(TeacherConfig(path=str(folder), dtype="float32"))
    packed = load_teacher(TeacherConfig(path=str(folder), dtype="float32"), QuantizationConfig(kind=kind))
    assert measure(packed.model).bytes < 0.55 * measure(plain.model).bytes
    assert measure(packed.model).trainable_parameters == 0
    ids = random_ids()
    batch = Batch(input_ids_BT=ids, labels_BT=ids)
    losses = []
    for teacher in (plain, packed):
        student = tiny_model("llama", seed=1)
        rows = ModelPair(split=SplitModel(student), teacher=teacher).rows(batch)
        out = row_loss(LOSSES["forward_kl"](), rows, count=len(rows))
        out.loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in student.parameters())
        losses.append(out.loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=0.2)


@on_cpu
def test_a_checkpoint_that_was_saved_packed_loads_as_it_is(folder, kind, package, tmp_path):
    pytest.importorskip(package)
    packed = load_language_model(str(folder), dtype="float32", quantization=QuantizationConfig(kind=kind))
    packed.save_pretrained(tmp_path / "packed")
    again = load_language_model(str(tmp_path / "packed"), dtype="float32", option="teacher.path")
    with torch.no_grad():
        torch.testing.assert_close(again(random_ids()).logits, packed(random_ids()).logits, rtol=1e-4, atol=1e-4)
    assert measure(again).bytes == pytest.approx(measure(packed).bytes, rel=0.02)
    with pytest.raises(ValueError, match=r"its weights are quantised already .*; set quantization=none"):
        load_language_model(str(tmp_path / "packed"), quantization=QuantizationConfig(kind=kind))
    byte_tokenizer().save_pretrained(tmp_path / "packed")
    lora = StudentConfig(path=str(tmp_path / "packed"), lora=LoraConfig(r=2))
    with pytest.raises(ValueError, match=r"^student.path=.* saved packed .* give the checkpoint they were made from"):
        build_student(lora, None, None, seed=0)


def test_torchao_says_where_it_finds_nothing_to_pack(tmp_path):
    pytest.importorskip("torchao")
    gpt2 = str(save_tiny("gpt2", tmp_path / "gpt2"))
    with pytest.raises(
        ValueError, match=r"torchao_int8 can pack none of the layers of GPT2LMHeadModel; choose bnb8 or"
    ):
        load_language_model(gpt2, quantization=QuantizationConfig(kind="torchao_int8"))


@pytest.mark.parametrize(
    ("method", "package", "extra"),
    [
        ("gptq", "optimum", "gptq"),
        ("awq", "optimum", "gptq"),
        ("bitsandbytes", "bitsandbytes", "quant"),
        ("torchao", "torchao", "quant"),
    ],
)
def test_a_packed_checkpoint_without_its_backend_names_the_extra(folder, method, package, extra, monkeypatch):
    says_packed(folder, method, bits=4)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=rf"its weights are packed by {method}, which needs {package}; pip install"
    ) as error:
        load_language_model(str(folder), option="teacher.path")
    assert str(error.value).endswith(f"'kdlab[{extra}]'")
    assert "\n" not in str(error.value)


def test_exl3_is_for_exl3_checkpoints_on_a_gpu(folder, monkeypatch):
    exl3 = QuantizationConfig(kind="exl3")
    with pytest.raises(ValueError, match=r"quantization=exl3 reads an EXL3 checkpoint, and its weights are plain; set"):
        load_language_model(str(folder), quantization=exl3)
    says_packed(folder, "exl3", bits=4.0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for kind in ("exl3", "none"):
        with pytest.raises(ValueError, match=r"packed by exl3, which needs exllamav3; pip install exllamav3$"):
            load_language_model(str(folder), quantization=QuantizationConfig(kind=kind))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(
        ValueError, match=r"^teacher.path=.*: EXL3 weights need a CUDA GPU, and this runs on cpu; give .*teacher=openai"
    ) as error:
        load_language_model(str(folder), quantization=exl3, option="teacher.path")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"its weights are quantised already \(exl3\); set quantization=none"):
        load_language_model(str(folder), quantization=QuantizationConfig(kind="nf4"))


def test_exl3_is_registered_before_its_checkpoint_is_read(folder, monkeypatch):
    says_packed(folder, "exl3", bits=4.0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    backend, calls = types.ModuleType("exllamav3.integration.transformers"), []
    backend.register = lambda: calls.append("register")
    for name in ("exllamav3", "exllamav3.integration"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, backend.__name__, backend)
    config = types.SimpleNamespace(quantization_config={"quant_method": "exl3", "bits": 4.0})
    asked = {"dtype": torch.float16, "device": "cuda:0", "name": "teacher.path=x"}
    assert loading_options(QuantizationConfig(kind="exl3"), config, **asked) == {"device_map": {"": "cuda:0"}}
    assert calls == ["register"]
    del backend.register  # an older release
    with pytest.raises(ValueError, match=r"^teacher.path=x: exllamav3 is installed but does not load .* release 1.6"):
        loading_options(QuantizationConfig(), config, **asked)


def test_gptq_is_for_gptq_checkpoints(folder):
    gptq = QuantizationConfig(kind="gptq")
    with pytest.raises(ValueError, match=r"quantization=gptq reads a GPTQ checkpoint, and its weights are plain; set"):
        load_language_model(str(folder), quantization=gptq)
    says_packed(folder, "awq", bits=4)
    with pytest.raises(ValueError, match=r"its weights are awq; set quantization=none"):
        load_language_model(str(folder), quantization=gptq)
    says_packed(folder, "gptq", bits=4)
    if lacking("gptq") is not None:
        with pytest.raises(ValueError, match=r"packed by gptq, which needs .*; pip install 'kdlab\[gptq\]'"):
            load_language_model(str(folder), quantization=gptq)


def test_a_gguf_file_stays_packed_on_a_gpu_only(folder, tmp_path):
    gguf = QuantizationConfig(kind="gguf")
    with pytest.raises(ValueError, match=r"quantization=gguf reads a .gguf file; set quantization=none"):
        load_language_model(str(folder), quantization=gguf)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    message = (
        r"^teacher.path=.*: quantization=gguf needs a CUDA or Apple GPU, and this runs on cpu; quantization=none reads"
    )
    with pytest.raises(ValueError, match=message):
        load_language_model(str(tmp_path / "model.gguf"), quantization=gguf, option="teacher.path")


def test_every_kind_says_what_it_lacks(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert lacking("none") is None
    assert all(lacking(kind).startswith(f"needs {packages[0]}; pip install ") for kind, packages in PACKAGES.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "x"}, "student.quantization=nf4: packed weights do not train; add adapters with student.lora.r=8"),
        ({"from_teacher": CutConfig(), "lora": LoraConfig()}, "student.from_teacher is not one; .* give student.path"),
        (
            {"architecture": {"model_type": "llama"}, "lora": LoraConfig()},
            "student.architecture is not one; .* student.path",
        ),
        (
            {"path": "x", "lora": LoraConfig(), "quantization": "gptq"},
            "student.quantization=gptq: must be one of none, bnb8",
        ),
    ],
)
def test_a_packed_student_has_a_path_and_adapters(options, message):
    with pytest.raises(ValueError, match=message):
        StudentConfig(**({"quantization": "nf4"} | options))


def qlora(folder, kind, **options):
    config = StudentConfig(path=str(folder), quantization=kind, lora=LoraConfig(r=4), **options)
    return build_student(config, None, None, seed=0)


def shaken(model):
    """Adapters that do something."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    return model.eval()


@pytest.mark.parametrize(
    ("architecture", "kind", "package"),
    [*(("llama", *kind) for kind in KINDS), ("gpt2", "nf4", "bitsandbytes"), ("t5", "torchao_int8", "torchao")],
)
def test_a_packed_student_trains_its_adapters_and_merges_into_the_plain_base(
    architecture, kind, package, tmp_path, capsys
):
    pytest.importorskip(package)
    folder = save_tiny(architecture, tmp_path / "base")
    student = qlora(folder, kind)
    assert student.description == f"folder {folder}, {kind}, LoRA r=4"
    model = student.model
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert {p.dtype for name, p in model.named_parameters() if name in trained} == {torch.float32}
    plain = measure(tiny_model(architecture))
    assert measure(model).parameters == plain.parameters + measure(model).trainable_parameters
    assert measure(model).bytes - 4 * measure(model).trainable_parameters < 0.9 * plain.bytes
    ids = random_ids()
    model(input_ids=ids, labels=ids).loss.backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if name in trained)

    shaken(model)
    before = {name: value.clone() for name, value in model.state_dict().items() if "lora_" in name}
    save_student(model, student.tokenizer, tmp_path / "model")
    said = capsys.readouterr().err
    assert f"the adapters are added to {folder}, read again in float32" in said
    save_adapter(model, tmp_path / "adapter")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items() if "lora_" in name)
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        folder
    )

    from peft import PeftModel

    dense = PeftModel.from_pretrained(tiny_model(architecture), tmp_path / "adapter")
    saved = load_language_model(str(tmp_path / "model"), dtype="auto")
    assert "quantization_config" not in json.loads((tmp_path / "model" / "config.json").read_text())
    assert saved.dtype == torch.float32
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if architecture == "t5" else {})
    with torch.no_grad():
        wanted, far = dense(**inputs).logits, tiny_model(architecture)(**inputs).logits
        torch.testing.assert_close(saved(**inputs).logits, wanted, rtol=1e-4, atol=5e-3)
    assert not torch.allclose(wanted, far, atol=0.1)


def test_a_packed_student_multiplies_and_merges_in_its_dtype(folder):
    pytest.importorskip("bitsandbytes")
    student = qlora(folder, "nf4", dtype="bfloat16")
    layer = student.model.get_base_model().model.layers[0].self_attn.q_proj.base_layer
    assert layer.weight.quant_state.dtype == layer.compute_dtype == torch.bfloat16
    assert merged(shaken(student.model)).dtype == torch.bfloat16


def test_a_cut_of_a_packed_teacher_reads_the_plain_file(folder, tmp_path):
    pytest.importorskip("bitsandbytes")
    nf4 = QuantizationConfig(kind="nf4")
    teacher = load_teacher(TeacherConfig(path=str(folder)), nf4)
    cut = StudentConfig(from_teacher=CutConfig(layers=1))
    student = build_student(cut, teacher.model, teacher.tokenizer, seed=0)
    assert student.model.dtype == torch.float32
    load_language_model(str(folder), quantization=nf4).save_pretrained(tmp_path / "packed")
    byte_tokenizer().save_pretrained(tmp_path / "packed")
    teacher = load_teacher(TeacherConfig(path=str(tmp_path / "packed")))
    with pytest.raises(
        ValueError, match=r"^student.from_teacher: the teacher's file holds packed weights \(bitsandbytes\)"
    ):
        build_student(cut, teacher.model, teacher.tokenizer, seed=0)
