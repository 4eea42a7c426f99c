"""How good and how fast a model is on held-out data, and how it continues a few prompts.

Shape letters: B batch, T time, N rows, H hidden.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from kdlab.batch import Batch
from kdlab.losses.cross.base import CrossLoss
from kdlab.metrics.heldout import RowSums, measure
from kdlab.metrics.paired import PairSums, measure_pair
from kdlab.models.head import SplitModel
from kdlab.rows import Rows, supervised
from kdlab.training.decisions import judged
from kdlab.training.generate import write_answers
from kdlab.training.pair import ModelPair

if TYPE_CHECKING:
    from kdlab.data.labelled.store import LabelledStore
    from kdlab.data.store import Example, TokenStore
    from kdlab.losses.base import Loss
    from kdlab.models.classifier import ClassifierSplit

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


def heldout_metrics(
    pair: ModelPair, batches: Iterable[Batch], *, device: torch.device, loss: Loss | None = None
) -> dict[str, Any]:
    """`RowSums.result()` over all rows of all batches: per token, whatever the batches; the `tokens` read; and what
    `kl_is` where it is not exact.

    Of models with tokenizers of their own `PairSums.result()`, whose divergence is that of `loss` as it ends. Of
    classifiers the student's metrics of `decisions.judged`.
    """
    if pair.deciding is not None:
        return judged(pair, batches, device=device).student
    pair, tokens = pair.judged(), 0
    sums: RowSums | PairSums | None = None
    with evaluating(pair.split.model):
        for batch in batches:
            found = _measured(pair, batch.to(device), loss)
            sums = found if sums is None else sums + found  # type: ignore[operator]  # of one kind, as the batches are
            tokens += batch.tokens
    metrics: dict[str, Any] = {**(sums or RowSums()).result(), "tokens": tokens}
    if isinstance(sums, RowSums) and sums.kl_is is not None:
        metrics["kl_is"] = sums.kl_is
    return metrics


def _measured(pair: ModelPair, batch: Batch, loss: Loss | None) -> RowSums | PairSums:
    rows = pair.rows(batch)
    if isinstance(rows, Rows):
        return measure(rows, chunk_rows=CHUNK_ROWS)
    assert isinstance(loss, CrossLoss)
    assert pair.matched is not None
    assert batch.teacher is not None
    return measure_pair(
        rows,
        bytes_N=_label_bytes(batch),
        bytes_M=_label_bytes(batch.teacher),
        loss=loss.at(1.0),
        matched=pair.matched,
        chunk_rows=CHUNK_ROWS,
    )


def _label_bytes(batch: Batch) -> torch.Tensor:
    """How many bytes of its text the label of each row spells `[N]`, -1 where it spells none of it."""
    assert batch.starts_BT is not None
    assert batch.ends_BT is not None
    positions_N, _ = supervised(batch.labels_BT, shift=batch.shift)
    labels_N = positions_N + 1 if batch.shift else positions_N
    starts_N, ends_N = (ends.reshape(-1)[labels_N] for ends in (batch.starts_BT, batch.ends_BT))
    return torch.where(starts_N >= 0, ends_N - starts_N, -1)


def forward_speed(split: SplitModel | ClassifierSplit, batches: Iterable[Batch], *, device: torch.device) -> float:
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


def _forward(split: SplitModel | ClassifierSplit, batch: Batch) -> None:
    if batch.decides:
        split.hidden(batch)
        return
    positions_N, labels_N = supervised(batch.labels_BT, shift=batch.shift)
    hidden_BTH = split.hidden(batch)
    hidden_NH = hidden_BTH.reshape(-1, hidden_BTH.shape[-1])[positions_N]
    measure(Rows(student=split.project(hidden_NH), teacher=None, labels_N=labels_N), chunk_rows=CHUNK_ROWS)


def prompts(store: TokenStore | LabelledStore, count: int) -> list[list[int]]:
    """Token ids of the first `count` prompts: what an encoder reads of an example, else what comes before its
    supervised tokens.

    An example that is supervised from its beginning (plain text) gives its first tokens, half of it at most.
    """
    return [_prompt(example) for example in _openings(store, count)]


def teacher_prompts(
    store: TokenStore | LabelledStore, count: int, tokenizer: Any, teacher_tokenizer: Any
) -> list[list[int]]:
    """The same prompts as the teacher reads them: by its own tokenizer, template and prompt, where it has its own. A
    prompt that holds the answer tells it: what the teacher then writes says little of what it knows."""
    found: list[list[int]] = []
    for example in _openings(store, count):
        if example.teacher is None:
            found.append(_prompt(example))
        elif _asks(example):
            found.append(_prompt(example.teacher))
        else:
            text = tokenizer.decode(_prompt(example), skip_special_tokens=True)
            ids = [int(token) for token in teacher_tokenizer(text)["input_ids"]]
            found.append(ids[:-1] if ids[-1:] == [teacher_tokenizer.eos_token_id] else ids)
    return found


def _openings(store: TokenStore | LabelledStore, count: int) -> list[Example]:
    """The first `count` examples that have a prompt."""
    asking = (example for example in map(store.__getitem__, range(len(store))) if _prompt(example))
    return list(islice(asking, count))


def _asks(example: Example) -> bool:
    """Whether an example has a prompt of its own, and is no plain text."""
    return example.source_ids is not None or not example.supervised[:2].any()


def _prompt(example: Example) -> list[int]:
    if example.source_ids is not None:
        return [int(token) for token in example.source_ids]
    ids = [int(token) for token in example.input_ids]
    if not _asks(example):
        return ids[: min(PROMPT_TOKENS, len(ids) // 2)]
    return ids[: next((t for t, is_target in enumerate(example.supervised) if is_target), len(ids))]


def continuations(
    model: Any, tokenizer: Any, prompts: list[list[int]], *, max_new_tokens: int, device: torch.device
) -> list[str]:
    """What `model` writes for each prompt, greedily: see `write_answers`."""
    return write_answers(model, tokenizer, prompts, max_new_tokens=max_new_tokens, device=device)
