"""How good and how fast a model is on held-out data, and how it continues a few prompts.

Shape letters: B batch, T time, N rows, H hidden.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from kdlab.batch import Batch
from kdlab.metrics.heldout import RowSums, measure
from kdlab.models.head import SplitModel
from kdlab.rows import Rows, supervised
from kdlab.training.pair import ModelPair

if TYPE_CHECKING:
    from kdlab.data.store import TokenStore

SPEED_TOKENS = 4096
"""Tokens that a speed is measured on, at most."""
SPEED_SECONDS = 1.5
PROMPT_TOKENS = 32
"""Length of a prompt taken from an example that is supervised from its beginning."""
CHUNK_ROWS = 256


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """No gradient and no dropout, for the time of the block."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def heldout_metrics(pair: ModelPair, batches: Iterable[Batch], *, device: torch.device) -> dict[str, float]:
    """`RowSums.result()` over all rows of all batches: per token, whatever the batches; and the `tokens` read."""
    sums, tokens = RowSums(), 0
    with evaluating(pair.split.model):
        for batch in batches:
            rows = pair.rows(batch.to(device))
            assert isinstance(rows, Rows)
            sums += measure(rows, chunk_rows=CHUNK_ROWS)
            tokens += batch.tokens
    return {**sums.result(), "tokens": tokens}


def forward_speed(split: SplitModel, batches: Iterable[Batch], *, device: torch.device) -> float:
    """Tokens per second of a forward pass with the LM head on every supervised row, after one example to warm up."""
    tokens, seconds = 0, 0.0
    with evaluating(split.model):
        for i, batch in enumerate(batches):
            if i == 0:
                _forward(split, _first_example(batch).to(device))
            began = time.perf_counter()
            _forward(split, batch.to(device))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            tokens, seconds = tokens + batch.tokens, seconds + time.perf_counter() - began
            if tokens >= SPEED_TOKENS or seconds >= SPEED_SECONDS:
                break
    return tokens / seconds


def _first_example(batch: Batch) -> Batch:
    tensors: dict[str, Any] = {
        name: value[:1] for name, value in vars(batch).items() if isinstance(value, torch.Tensor)
    }
    return replace(batch, **tensors)


def _forward(split: SplitModel, batch: Batch) -> None:
    positions_N, labels_N = supervised(batch.labels_BT, shift=batch.shift)
    hidden_BTH = split.hidden(batch)
    hidden_NH = hidden_BTH.reshape(-1, hidden_BTH.shape[-1])[positions_N]
    measure(Rows(student=split.project(hidden_NH), teacher=None, labels_N=labels_N), chunk_rows=CHUNK_ROWS)


def prompts(store: TokenStore, count: int) -> list[list[int]]:
    """Token ids of the first `count` prompts: what comes before the supervised tokens of an example.

    An example that is supervised from its beginning (plain text) gives its first tokens, half of it at most.
    """
    found: list[list[int]] = []
    for i in range(len(store)):
        if len(found) == count:
            break
        example = store[i]
        ids = [int(token) for token in example.input_ids]
        first = next((t for t, is_target in enumerate(example.supervised) if is_target), len(ids))
        prompt = ids[:first] if first > 1 else ids[: min(PROMPT_TOKENS, len(ids) // 2)]
        if prompt:
            found.append(prompt)
    return found


def continuations(
    model: Any, tokenizer: Any, prompts: list[list[int]], *, max_new_tokens: int, device: torch.device
) -> list[str]:
    """What `model` writes after each prompt, greedily. A prompt that leaves no room for it is cut on the left."""
    from transformers import GenerationConfig

    if not prompts:
        return []
    eos = tokenizer.eos_token_id
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (eos or 0)
    context = getattr(model.config, "max_position_embeddings", None)
    room = max(1, context - max_new_tokens) if context else max(len(prompt) for prompt in prompts)
    cut = [prompt[-room:] for prompt in prompts]
    width = max(len(prompt) for prompt in cut)
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in cut], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in cut], device=device)
    how = GenerationConfig(
        do_sample=False, max_new_tokens=max_new_tokens, pad_token_id=pad, eos_token_id=eos, use_cache=True
    )
    with evaluating(model):
        written = model.generate(input_ids=ids, attention_mask=mask, generation_config=how)
    return [str(text) for text in tokenizer.batch_decode(written[:, width:], skip_special_tokens=True)]
