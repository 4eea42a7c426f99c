import importlib.util
import json

import pytest
import torch
from architectures import random_ids
from encoder_decoders import own_logits, random_seq2seq, seq2seq_batch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from kdlab.models.loading import load_language_model, load_tokenizer
from kdlab.models.quantization import QuantizationConfig
from kdlab.models.tiny import byte_tokenizer, save_tiny, tiny_model


@pytest.fixture
def folder(tmp_path):
    return save_tiny("llama", tmp_path / "m")


def test_a_folder(folder):
    model = load_language_model(str(folder), dtype="bfloat16")
    assert model.dtype == torch.bfloat16
    assert not model.training
    assert load_language_model(str(folder), dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_tiny_paths_work_wherever_a_path_does(kind):
    model = load_language_model(f"tiny:{kind}", dtype="float32")
    assert torch.equal(model(random_ids()).logits, tiny_model(kind)(random_ids()).logits)
    assert load_tokenizer(f"tiny:{kind}").get_vocab() == byte_tokenizer().get_vocab()


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_encoder_decoder_models_load_too(kind, tmp_path):
    for path in (f"tiny:{kind}", str(save_tiny(kind, tmp_path))):
        model = load_language_model(path, dtype="float32")
        assert model.config.is_encoder_decoder
        assert not model.training
        batch = seq2seq_batch()
        assert torch.equal(own_logits(model, batch), own_logits(tiny_model(kind), batch))


def test_a_head_beside_the_embedding_stays_apart(tmp_path):
    """FLAN-T5: its config says tied, its files hold both."""
    model = random_seq2seq("flan_t5")
    model.all_tied_weights_keys.pop("lm_head.weight")
    model.save_pretrained(tmp_path)
    loaded = load_language_model(str(tmp_path), dtype="float32")
    assert torch.equal(own_logits(loaded, seq2seq_batch()), own_logits(model, seq2seq_batch()))


def test_encoders_are_refused(tmp_path):
    for path in ("tiny:bert", str(save_tiny("bert", tmp_path))):
        with pytest.raises(ValueError, match=f"teacher.path={path}: bert is an encoder, it cannot write text"):
            load_language_model(path, option="teacher.path")


def test_an_encoder_decoder_of_another_kind_is_refused(tmp_path, folder):
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "vits", "is_encoder_decoder": True}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="transformers knows no text-to-text model of type vits"):
        load_language_model(str(folder))


def test_a_bert_that_is_a_decoder_is_a_causal_model(tmp_path):
    config = BertConfig(**tiny_model("bert").config.to_dict() | {"is_decoder": True})
    BertForMaskedLM(config).save_pretrained(tmp_path)
    assert load_language_model(str(tmp_path)).config.is_decoder


def test_missing_weights_are_refused_not_drawn_at_random(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"its files lack 1 weights of the model, e.g. model.norm.weight"):
        load_language_model(str(folder))


def test_damaged_weights_are_one_line(folder):
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ValueError, match=r"student.path=.*: cannot be loaded") as caught:
        load_language_model(str(folder), option="student.path")
    assert "\n" not in str(caught.value)
    (folder / "model.safetensors").write_bytes(weights)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 96}))
    with pytest.raises(ValueError, match=r"cannot be loaded .*mismatch") as caught:
        load_language_model(str(folder))
    assert "\n" not in str(caught.value)


def test_remote_code_is_off_unless_asked_for(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('ran')\n")
    with pytest.raises(ValueError, match=r"no usable config.json") as caught:
        load_language_model(str(folder))
    assert "\n" not in str(caught.value)


def edit_tokenizer(folder, **changes):
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_missing_pad_token_is_taken_from_the_vocabulary_and_said(folder, capsys):
    size = load_language_model(str(folder)).get_input_embeddings().num_embeddings
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    loaded = load_tokenizer(str(folder), option="teacher.path")
    assert loaded.pad_token == "<pad>"
    assert len(loaded) == size
    assert f"teacher.path={folder}: the tokenizer names no pad token; padding with '<pad>'" in capsys.readouterr().err


def test_without_a_pad_like_token_the_end_of_text_pads(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] = {
        ("<|zero|>" if t == "<pad>" else t): i for t, i in tokenizer["model"]["vocab"].items()
    }
    tokenizer["added_tokens"] = [t for t in tokenizer["added_tokens"] if t["content"] != "<pad>"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    edit_tokenizer(folder, pad_token=None)
    assert load_tokenizer(str(folder)).pad_token == "<eos>"


def test_a_folder_without_a_tokenizer_says_so(folder):
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink()
    with pytest.raises(ValueError, match=r"no tokenizer lies in .* copy the tokenizer's files there") as caught:
        load_tokenizer(str(folder), option="PATH")
    assert str(caught.value).startswith(f"PATH={folder}: ")
    assert "\n" not in str(caught.value)


def test_a_tokenizer_that_cannot_be_read_says_so_in_a_whole_sentence(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"no sentences")
    with pytest.raises(ValueError, match=r"no usable tokenizer \(.*[^:]\)$") as caught:
        load_tokenizer(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "package"), [("bnb8", "bitsandbytes"), ("nf4", "bitsandbytes"), ("torchao_int8", "torchao")]
)
def test_quantised_models_answer_nearly_as_before(folder, kind, package):
    pytest.importorskip(package)
    model = load_language_model(str(folder), dtype="float32", quantization=QuantizationConfig(kind=kind))
    with torch.no_grad():
        p = tiny_model("llama")(random_ids()).logits.log_softmax(-1)
        q = model(random_ids()).logits.float().log_softmax(-1)
    assert 0 < float((p.exp() * (p - q)).sum(-1).mean()) < 0.4


def test_a_missing_extra_is_named(folder, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"quantization.kind=nf4: needs bitsandbytes; pip install 'kdlab\[quant\]'"):
        load_language_model(str(folder), quantization=QuantizationConfig(kind="nf4"))


def test_quantisations_that_cannot_be_are_refused(folder):
    with pytest.raises(ValueError, match=r"quantization.kind=int3: must be one of none, bnb8, nf4, torchao_int8"):
        QuantizationConfig(kind="int3")
    pytest.importorskip("bitsandbytes")
    with pytest.raises(ValueError, match=r"tiny:llama: a tiny model is made in memory and cannot be quantised"):
        load_language_model("tiny:llama", quantization=QuantizationConfig(kind="nf4"))
