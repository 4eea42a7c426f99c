"""Prompts, continuations and speed; the held-out metrics are checked by whole jobs in test_run.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdlab.batch import Batch
from kdlab.data.store import Example
from kdlab.models.head import SplitModel
from kdlab.models.tiny import byte_tokenizer, tiny_model
from kdlab.training.evaluation import PROMPT_TOKENS, continuations, forward_speed, heldout_metrics, prompts
from kdlab.training.pair import ModelPair

CPU = torch.device("cpu")


def example(length: int, prompt: int) -> Example:
    supervised = np.arange(length) >= prompt
    return Example(input_ids=np.arange(3, 3 + length, dtype=np.int32), supervised=supervised)


def test_a_prompt_is_what_comes_before_the_response():
    store = [example(20, 7), example(100, 1), example(10, 1), example(1, 1)]
    found = prompts(store, 9)
    assert [len(prompt) for prompt in found] == [7, PROMPT_TOKENS, 5, 1][: len(found)]
    assert found[0] == list(range(3, 10))
    assert len(prompts(store, 2)) == 2


def test_continuations_are_greedy_whatever_the_other_prompts():
    model, tokenizer = tiny_model("llama"), byte_tokenizer()
    asked = [[10, 20, 30, 40, 50], [60, 70]]
    expected = []
    for prompt in asked:
        ids = list(prompt)
        for _ in range(6):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                break
        expected.append(tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True))
    model.train()
    assert continuations(model, tokenizer, asked, max_new_tokens=6, device=CPU) == expected
    assert model.training
    assert continuations(model, tokenizer, [], max_new_tokens=6, device=CPU) == []


def test_a_prompt_that_fills_the_context_is_cut_on_the_left():
    model, tokenizer = tiny_model("gpt2"), byte_tokenizer()
    context = model.config.n_positions
    (text,) = continuations(model, tokenizer, [[5] * (context + 9)], max_new_tokens=3, device=CPU)
    assert isinstance(text, str)


def test_measuring_leaves_mode_gradients_and_random_numbers_alone():
    split = SplitModel(tiny_model("llama").train())
    ids = torch.randint(3, 200, (2, 9))
    state = torch.get_rng_state()
    metrics = heldout_metrics(
        ModelPair(split=split, teacher=None), [Batch(input_ids_BT=ids, labels_BT=ids)], device=CPU
    )
    assert (metrics["rows"], metrics["tokens"]) == (16, 18)
    assert split.model.training
    assert all(parameter.grad is None for parameter in split.model.parameters())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("count", [1, 3])
def test_speed_is_positive_from_one_batch_on(count):
    ids = torch.randint(3, 200, (2, 9))
    batches = [Batch(input_ids_BT=ids, labels_BT=ids)] * count
    assert forward_speed(SplitModel(tiny_model("llama")), batches, device=CPU) > 0
