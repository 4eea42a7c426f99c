"""What models write, held against a plain loop over argmax."""

from __future__ import annotations

import pytest
import torch

from kdlab.models.lora import add_lora
from kdlab.models.student import CutConfig, LoraConfig, StudentConfig, build_student
from kdlab.models.tiny import byte_tokenizer, tiny_model
from kdlab.training.generate import write_answers

CPU = torch.device("cpu")
PROMPTS = [[60, 70], [10, 20, 30, 40, 50, 90, 91], [5, 6, 7]]
TOKENIZER = byte_tokenizer()


def greedy(model, prompt, count):
    """One prompt alone, without a cache."""
    written = [model.config.decoder_start_token_id] if model.config.is_encoder_decoder else list(prompt)
    begun = len(written)
    for _ in range(count):
        asked = {"input_ids": torch.tensor([prompt]), "decoder_input_ids": torch.tensor([written])}
        if not model.config.is_encoder_decoder:
            asked = {"input_ids": torch.tensor([written])}
        with torch.no_grad():
            written.append(int(model(**asked).logits[0, -1].argmax()))
        if written[-1] == TOKENIZER.eos_token_id:
            break
    return TOKENIZER.decode(written[begun:], skip_special_tokens=True)


def write(model, prompts=PROMPTS, **options):
    return write_answers(model, TOKENIZER, prompts, **({"max_new_tokens": 6, "device": CPU} | options))


@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5", "bart"])
def test_answers_are_greedy_and_in_order_whatever_the_batch(kind):
    model = tiny_model(kind, seed=3).train()
    expected = [greedy(model.eval(), prompt, 6) for prompt in PROMPTS]
    model.train()
    assert len(set(expected)) > 1
    for size in (1, 2, 16):
        assert write(model, batch_size=size) == expected
    assert model.training
    assert write(model, []) == []


@pytest.mark.parametrize("kind", ["llama", "t5", "bart"])
def test_a_models_own_taste_in_texts_is_left_aside_and_left_alone(kind):
    plain, odd = tiny_model(kind), tiny_model(kind)
    odd.generation_config.update(num_beams=3, min_length=5, no_repeat_ngram_size=2, repetition_penalty=3.0)
    before = odd.generation_config.to_dict()
    assert write(odd) == write(plain)
    assert odd.generation_config.to_dict() == before


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_beams_find_nothing_less_likely_than_greed_does(kind):
    model = tiny_model(kind, seed=1)
    calls = []
    generate = model.generate
    model.generate = lambda **asked: calls.append(asked["generation_config"].num_beams) or generate(**asked)
    assert len(write(model, beams=4)) == len(PROMPTS)
    assert calls == [4]


@pytest.mark.parametrize("kind", ["llama", "bart"])
def test_drawn_answers_follow_the_random_state(kind):
    model = tiny_model(kind)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(write(model, sample=True, temperature=1.5))
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] != write(model)
    assert write(model, sample=True, top_p=1e-6) == write(model)


def test_what_ends_a_text_is_what_the_tokenizer_or_the_model_says():
    model = tiny_model("llama")
    (text,) = write(model, [[60, 70]])
    first = int(model(torch.tensor([[60, 70]])).logits[0, -1].argmax())
    assert len(text) > 1
    model.generation_config.eos_token_id = [2, first]
    assert len(write(model, [[60, 70]])[0]) <= 1


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_a_pad_token_that_the_model_does_not_have_pads_no_prompt(kind):
    """A teacher of `loss.vocab=shared` reads prompts of the student's tokenizer."""
    model, other = tiny_model(kind, seed=3), byte_tokenizer()
    other.add_special_tokens({"pad_token": "<|pad|>"})
    assert other.pad_token_id == model.config.vocab_size
    assert write_answers(model, other, PROMPTS, max_new_tokens=6, device=CPU) == write(model)


@pytest.mark.parametrize("kind", ["gpt2", "bart"])
def test_a_prompt_without_room_is_cut_and_that_is_said(kind, capsys):
    model, context = tiny_model(kind), 24
    model.config.max_position_embeddings = context
    prompt = [int(i) for i in torch.randint(3, 200, (context + 9,))]
    written = write(model, [prompt, [5, 6]], max_new_tokens=3)
    kept = prompt[:context] if kind == "bart" else prompt[-(context - 3) :]
    assert written[0] == greedy(model, kept, 3)
    assert f"1 of 2 prompts are cut to the {len(kept)} tokens" in capsys.readouterr().err


def test_an_adapted_model_writes_with_its_adapter():
    model = add_lora(tiny_model("t5"), LoraConfig(r=4), seed=0).eval()
    before = write(model)
    assert before == write(tiny_model("t5"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    assert write(model) != before


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_a_cut_student_writes(kind):
    teacher = tiny_model(kind, layers=3)
    student = build_student(StudentConfig(from_teacher=CutConfig(layers=2)), teacher, TOKENIZER, seed=0)
    assert write(student.model) == [greedy(student.model.eval(), prompt, 6) for prompt in PROMPTS]


def test_a_text_that_begins_with_a_language_needs_one():
    model = tiny_model("bart")
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = None
    with pytest.raises(ValueError, match=r"nothing says what its texts begin with; set tgt_lang"):
        write(model)
