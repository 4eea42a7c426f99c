import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from kdlab.models.tiny import KINDS, VOCABULARY, byte_tokenizer, save_tiny, tiny_model

TOKENIZER = byte_tokenizer()
AUTO = {"t5": AutoModelForSeq2SeqLM, "bart": AutoModelForSeq2SeqLM, "bert": AutoModelForMaskedLM}
SPECIALS = ("<pad>", "<bos>", "<eos>")


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_any_text_comes_back(text):
    if any(special in text for special in SPECIALS):
        return
    ids = TOKENIZER(text).input_ids
    assert len(ids) == len(text.encode("utf-8"))
    assert TOKENIZER.decode(ids) == text


def test_the_tokenizer_has_what_training_needs():
    assert len(TOKENIZER) == VOCABULARY == 259
    assert (TOKENIZER.pad_token_id, TOKENIZER.bos_token_id, TOKENIZER.eos_token_id) == (0, 1, 2)


def test_the_chat_template_marks_what_the_assistant_says():
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    encoded = TOKENIZER.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    said = [i for i, mine in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mine]
    assert TOKENIZER.decode(said) == "yo<eos>"
    prompt = TOKENIZER.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == "user: hi\nassistant: "


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_model_and_leaves_the_random_state_alone(kind):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, other = tiny_model(kind), tiny_model(kind), tiny_model(kind, seed=1)
    assert torch.equal(torch.rand(3), expected)
    weights = [dict(model.named_parameters()) for model in (first, second, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not torch.equal(weights[0][name], weights[2][name]) for name in weights[0])
    assert not first.training
    assert first.config.vocab_size == VOCABULARY


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_tiny_model_loads_plainly(kind, tmp_path):
    folder = save_tiny(kind, tmp_path / kind)
    auto = AUTO.get(kind, AutoModelForCausalLM)
    loaded, made = auto.from_pretrained(folder), tiny_model(kind)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), made.parameters(), strict=True))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("héllo").input_ids == TOKENIZER("héllo").input_ids
    assert tokenizer.chat_template == TOKENIZER.chat_template


@pytest.mark.parametrize("kind", ["llama", "t5", "bart"])
def test_two_tiny_models_disagree_clearly(kind):
    ids = torch.arange(3, 35)[None]
    more = {} if kind == "llama" else {"decoder_input_ids": ids.flip(1)}
    with torch.no_grad():
        p, q = (tiny_model(kind, seed=seed)(input_ids=ids, **more).logits.log_softmax(-1) for seed in (0, 1))
    assert float((p.exp() * (p - q)).sum(-1).mean()) > 0.5


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_what_the_encoder_reads_matters(kind):
    ids, model = torch.arange(3, 35)[None], tiny_model(kind)
    with torch.no_grad():
        p, q = (model(input_ids=x, decoder_input_ids=ids).logits.log_softmax(-1) for x in (ids, ids.flip(1)))
    assert float((p.exp() * (p - q)).sum(-1).mean()) > 0.05


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match=r"tiny:mamba: must be one of tiny:llama"):
        tiny_model("mamba")
