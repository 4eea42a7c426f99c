import json

import pytest
import torch
from architectures import random_ids, random_model
from encoder_decoders import own_logits, random_seq2seq, seq2seq_batch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, pipeline

from kdlab.models.cut import cut
from kdlab.models.lora import add_lora
from kdlab.models.student import CutConfig, LoraConfig, StudentConfig, build_student
from kdlab.models.tiny import byte_tokenizer, tiny_model
from kdlab.models.writing import is_adapted, merged, save_adapter, save_student


def test_a_saved_student_is_a_plain_folder(tmp_path):
    teacher = tiny_model("llama", layers=4)
    teacher.generation_config.repetition_penalty = 1.25
    student = build_student(StudentConfig(from_teacher=CutConfig(layers=2)), teacher, byte_tokenizer(), seed=0)
    student.model.config.use_cache = False
    save_student(student.model, student.tokenizer, tmp_path)
    assert student.model.config.use_cache is False
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["dtype"], config["use_cache"], config["num_hidden_layers"]) == ("float32", True, 2)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.dtype == torch.float32
    assert again.generation_config.repetition_penalty == 1.25
    ids = random_ids()
    with torch.no_grad():
        assert torch.equal(again(ids).logits, student.model.eval()(ids).logits)
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template == student.tokenizer.chat_template
    generate = pipeline("text-generation", model=str(tmp_path))
    assert generate("ab", max_new_tokens=3, do_sample=False)[0]["generated_text"].startswith("ab")
    assert {p.suffix for p in tmp_path.iterdir()} <= {".json", ".safetensors", ".jinja"}


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "phi"])
def test_lora_is_merged_into_a_copy(name, tmp_path):
    """Oracle: peft's own forward, and its own in-place merge."""
    model, ids = random_model(name), random_ids()
    adapted = add_lora(model, LoraConfig(r=2, alpha=8), seed=0).eval()
    for parameter_name, parameter in adapted.named_parameters():
        if "lora_B" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.3)
    before = {key: value.clone() for key, value in adapted.state_dict().items()}
    with torch.no_grad():
        wanted = adapted(input_ids=ids).logits
        base = random_model(name)(ids).logits
    assert not torch.allclose(wanted, base, atol=1e-2)
    save_student(adapted, byte_tokenizer(), tmp_path / "model")
    save_adapter(adapted, tmp_path / "adapter")
    assert all(torch.equal(value, before[key]) for key, value in adapted.state_dict().items())
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, wanted, rtol=1e-4, atol=1e-4)
    assert not any("lora" in key for key in again.state_dict())
    from peft import PeftModel

    reloaded = PeftModel.from_pretrained(random_model(name), tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(reloaded(input_ids=ids).logits, wanted, rtol=1e-5, atol=1e-5)
    theirs = adapted.merge_and_unload()
    for (key, mine), (_, other) in zip(again.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6, msg=key)


@pytest.mark.parametrize("family", ["flan_t5", "bart"])
def test_lora_on_an_encoder_decoder_is_merged_into_a_copy(family, tmp_path):
    """Oracle: peft's own forward, of the adapted model and of the adapter read again."""
    batch = seq2seq_batch()
    adapted = add_lora(random_seq2seq(family), LoraConfig(r=2, alpha=8), seed=0).eval()
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        wanted = own_logits(adapted, batch)
        assert not torch.allclose(wanted, own_logits(random_seq2seq(family), batch), atol=1e-2)
    save_student(adapted, byte_tokenizer(), tmp_path / "model")
    save_adapter(adapted, tmp_path / "adapter")
    from peft import PeftModel

    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model")
    reloaded = PeftModel.from_pretrained(random_seq2seq(family), tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(own_logits(again, batch), wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(own_logits(reloaded, batch), wanted, rtol=1e-5, atol=1e-5)
    assert not any("lora" in key for key in again.state_dict())


@pytest.mark.parametrize("family", ["flan_t5", "mbart"])
def test_a_saved_encoder_decoder_is_a_plain_folder(family, tmp_path):
    student, _ = cut(random_seq2seq(family, layers=3), CutConfig(layers=2), dtype=torch.float32)
    save_student(student, byte_tokenizer(), tmp_path)
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    batch = seq2seq_batch()
    with torch.no_grad():
        assert torch.equal(own_logits(again, batch), own_logits(student, batch))
    assert again.config.use_cache
    assert again.generation_config.eos_token_id == student.generation_config.eos_token_id == 2


def test_a_plain_model_is_not_adapted():
    model = random_model("llama")
    assert not is_adapted(model)
    adapted = add_lora(model, LoraConfig(), seed=0)
    assert is_adapted(adapted)
    assert not is_adapted(merged(adapted))
