import json
import subprocess
import sys

import pytest
import torch
from omegaconf import OmegaConf
from transformers import AutoModelForSeq2SeqLM

from kdlab.models.student import CutConfig, LoraConfig, StudentConfig, build_student
from kdlab.models.tiny import byte_tokenizer, save_tiny, tiny_model
from kdlab.models.writing import save_student

TEACHER, TOKENIZER = tiny_model("llama", layers=4), byte_tokenizer()
IDS = torch.arange(3, 19).view(2, 8)
LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def build(seed=0, teacher=TEACHER, tokenizer=TOKENIZER, **config):
    return build_student(StudentConfig(**config), teacher, tokenizer, seed=seed)


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def test_configs_load_without_torch():
    code = "import sys, kdlab.models.student, kdlab.models.quantization, kdlab.teachers.live, kdlab.models.source\n"
    code += "print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_cut_student():
    student = build(from_teacher=CutConfig(layers=2))
    assert student.model.training
    assert student.model.config.num_hidden_layers == 2
    assert student.tokenizer is TOKENIZER
    assert student.description == "cut from the teacher: 2 of 4 layers [0, 3]"
    assert all(p.requires_grad for p in student.model.parameters())
    assert build(from_teacher=CutConfig(layers=2, ffn=100, heads=2)).description.endswith("[0, 3], ffn 100, heads 2")


def test_dtype_auto_is_that_of_the_device_it_trains_on(monkeypatch):
    asked = []
    monkeypatch.setattr("kdlab.models.dtype.native_bfloat16", lambda device: not asked.append(device.type))
    config = StudentConfig(from_teacher=CutConfig(layers=1), dtype="auto")
    student = build_student(config, TEACHER, TOKENIZER, seed=0, device="cuda")
    assert (student.model.dtype, student.model.device.type, asked) == (torch.bfloat16, "cpu", ["cuda"])


def test_importance_needs_no_tokens_from_the_caller():
    first = build(from_teacher=CutConfig(layers=2, pick="importance")).description
    assert first == build(from_teacher=CutConfig(layers=2, pick="importance")).description


def test_a_pretrained_student_has_its_weights_and_dtype(tmp_path):
    folder = save_tiny("llama", tmp_path / "s", seed=3)
    student = build(path=str(folder))
    assert student.description == f"folder {folder}"
    assert torch.equal(logits(student.model), logits(tiny_model("llama", seed=3)))
    assert build(path=str(folder), dtype="bfloat16").model.dtype == torch.bfloat16


def test_a_bare_architecture_is_random_by_seed_and_takes_the_teachers_vocabulary():
    one, same, other = build(1, architecture=LLAMA), build(1, architecture=LLAMA), build(2, architecture=LLAMA)
    assert torch.equal(logits(one.model), logits(same.model))
    assert not torch.equal(logits(one.model), logits(other.model))
    config = one.model.config
    assert (config.vocab_size, config.pad_token_id, config.eos_token_id) == (259, 0, 2)
    assert one.description == "random llama"
    assert one.model.dtype == torch.float32


def test_a_padded_head_of_the_teacher_is_matched():
    padded = tiny_model("llama", vocab_size=320)
    assert build(teacher=padded, architecture=LLAMA).model.config.vocab_size == 320
    assert build(teacher=None, architecture=LLAMA).model.config.vocab_size == 259


T5 = {"model_type": "t5", "d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 2, "num_heads": 4}
BART = {"model_type": "bart", "d_model": 32, "encoder_layers": 2, "decoder_layers": 1} | {
    f"{stack}_{part}": size
    for stack in ("encoder", "decoder")
    for part, size in (("attention_heads", 4), ("ffn_dim", 48))
}


@pytest.mark.parametrize(("fields", "start"), [(T5, 0), (BART, 2), (BART | {"model_type": "marian"}, 0)])
def test_a_bare_encoder_decoder_begins_and_ends_its_texts_as_the_tokenizer_says(fields, start, tmp_path):
    student = build(teacher=tiny_model("t5"), architecture=fields)
    config = student.model.config
    assert (config.vocab_size, config.pad_token_id, config.eos_token_id) == (259, 0, 2)
    assert config.decoder_start_token_id == student.model.generation_config.decoder_start_token_id == start
    assert student.description == f"random {fields['model_type']}"
    save_student(student.model, student.tokenizer, tmp_path)
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    student.model.eval()
    written = [m.generate(IDS, max_new_tokens=4, do_sample=False) for m in (again, student.model)]
    assert torch.equal(*written)
    assert set(written[0][:, 0].tolist()) == {start}
    own = build(teacher=tiny_model("t5"), architecture=fields | {"decoder_start_token_id": 1})
    assert own.model.config.decoder_start_token_id == 1


def test_a_cut_encoder_decoder_says_what_it_kept():
    student = build(teacher=tiny_model("t5", layers=3), from_teacher=CutConfig(layers=2))
    assert student.description == "cut from the teacher: encoder 2 of 3 layers [0, 2], decoder 2 of 3 layers [0, 2]"
    config = CutConfig(layers=2, pick="importance")
    assert "encoder 2 of 3" in build(teacher=tiny_model("bart", layers=3), from_teacher=config).description


def test_student_and_teacher_are_of_one_kind_unless_the_loss_takes_two():
    with pytest.raises(ValueError, match=r"student.path=tiny:llama is a causal one and the teacher \(.*an encoder-dec"):
        build(teacher=tiny_model("t5"), path="tiny:llama")
    config = StudentConfig(path="tiny:t5")
    with pytest.raises(ValueError, match=r"loss=uld_hybrid"):
        build_student(config, TEACHER, TOKENIZER, seed=0)
    build_student(config, TEACHER, TOKENIZER, seed=0, pairing="cross")


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_lora_on_an_encoder_decoder(kind):
    student = build(teacher=tiny_model(kind), path=f"tiny:{kind}", lora=LoraConfig(r=4))
    assert student.model.peft_config["default"].task_type == "SEQ_2_SEQ_LM"
    trainable = [name for name, p in student.model.named_parameters() if p.requires_grad]
    assert any("encoder" in name for name in trainable)
    assert any("decoder" in name for name in trainable)
    assert all("lora_" in name and "lm_head" not in name for name in trainable)


def test_building_leaves_the_random_state_alone():
    torch.manual_seed(1)
    expected = torch.rand(2)
    for config in ({"architecture": LLAMA}, {"from_teacher": CutConfig(layers=2), "lora": LoraConfig()}):
        torch.manual_seed(1)
        build(**config)
        assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("modules", ["all-linear", ["q_proj", "v_proj"]])
def test_lora_trains_only_adapters_and_starts_as_the_base(modules):
    plain = build(from_teacher=CutConfig(layers=2))
    student = build(from_teacher=CutConfig(layers=2), lora=LoraConfig(r=4, target_modules=modules))
    assert torch.equal(logits(student.model), logits(plain.model))
    trainable = [name for name, p in student.model.named_parameters() if p.requires_grad]
    assert trainable
    assert all("lora_" in name and "lm_head" not in name for name in trainable)
    assert {p.dtype for p in student.model.parameters()} == {torch.float32}
    assert student.description.endswith("LoRA r=4")
    again = build(from_teacher=CutConfig(layers=2), lora=LoraConfig(r=4, target_modules=modules))
    assert all(torch.equal(a, b) for a, b in zip(student.model.parameters(), again.model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "student: set one of student.path, student.from_teacher and student.architecture"),
        (
            {"architecture": LLAMA | {"hiden_size": 4}},
            "student.architecture.hiden_size=4: llama has no such field; did",
        ),
        ({"architecture": {"model_type": "lama"}}, "student.architecture.model_type=lama: .* did you mean llama"),
        ({"architecture": {"model_type": "bert"}}, "student.architecture: bert is an encoder"),
        ({"architecture": LLAMA | {"vocab_size": 100}}, "its tokenizer has 259 entries, its head only 100"),
        ({"architecture": LLAMA | {"vocab_size": 300}}, "student.architecture predicts 300 entries and the teacher"),
        ({"from_teacher": CutConfig(layers=9)}, "student.from_teacher.layers=9: the teacher has 4 layers"),
        (
            {"from_teacher": CutConfig(layers=2), "lora": LoraConfig(target_modules=["lm_head"])},
            "student.lora.target_modules=.*: the head .lm_head. stays frozen",
        ),
        (
            {"from_teacher": CutConfig(layers=2), "lora": LoraConfig(target_modules=["nothing"])},
            "student.lora.target_modules=.*nothing",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(config, message):
    with pytest.raises(ValueError, match=message) as caught:
        build(**config)
    assert "\n" not in str(caught.value)


def test_a_cut_needs_a_teacher_and_a_bare_model_a_tokenizer():
    with pytest.raises(ValueError, match=r"student.from_teacher: there is no teacher to cut"):
        build(teacher=None, from_teacher=CutConfig())
    with pytest.raises(ValueError, match=r"student.tokenizer is not set"):
        build(teacher=None, tokenizer=None, architecture=LLAMA)


def test_another_vocabulary_is_refused_naming_both(tmp_path):
    folder = save_tiny("llama", tmp_path / "other")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match=r"student.path=.*other and the teacher .* have different vocabularies"):
        build(path=str(folder))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: StudentConfig(path="x", from_teacher=CutConfig()),
            "student.path and student.from_teacher are all set",
        ),
        (lambda: StudentConfig(architecture={"hidden_size": 4}), "student.architecture: needs model_type"),
        (lambda: StudentConfig(dtype="int8"), "student.dtype=int8"),
        (lambda: CutConfig(layers=0), "student.from_teacher.layers=0: must be at least 1"),
        (lambda: CutConfig(layers="half"), "student.from_teacher.layers=half: must be a whole number or a list"),
        (lambda: CutConfig(layers=2.5), "student.from_teacher.layers=2.5: must be a whole number"),
        (lambda: CutConfig(layers=True), "student.from_teacher.layers=True: must be a whole number"),
        (lambda: CutConfig(layers=[]), "student.from_teacher.layers=.*: must be a whole number or a list"),
        (lambda: CutConfig(pick="odd"), "student.from_teacher.pick=odd: must be one of even, ends, importance"),
        (lambda: CutConfig(ffn=0), "student.from_teacher.ffn=0: must be at least 1"),
        (lambda: CutConfig(heads=-2), "student.from_teacher.heads=-2: must be at least 1"),
        (lambda: LoraConfig(r=0), "student.lora.r=0: must be at least 1"),
        (lambda: LoraConfig(alpha=0), "student.lora.alpha=0: must be at least 1"),
        (lambda: LoraConfig(dropout=1.0), "student.lora.dropout=1.0: must be at least 0 and below 1"),
        (lambda: LoraConfig(target_modules="q_proj"), "student.lora.target_modules=q_proj: must be all-linear or a"),
    ],
)
def test_bad_values_are_refused_when_the_config_is_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_defaults_are_a_valid_schema():
    schema = OmegaConf.structured(StudentConfig)
    merged = OmegaConf.merge(schema, {"from_teacher": {"layers": [0, 2]}, "lora": {"target_modules": ["q_proj"]}})
    config = OmegaConf.to_object(merged)
    assert isinstance(config, StudentConfig)
    assert config.from_teacher.layers == [0, 2]
    assert config.origins() == ["from_teacher"]
