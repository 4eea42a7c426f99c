"""What a model writes: the continuation of each prompt, or, where an encoder reads the prompt, the answer to it.

Shape letters: B batch, T time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kdlab.models.head import evaluating
from kdlab.models.progress import say
from kdlab.models.seq2seq import is_seq2seq

if TYPE_CHECKING:
    from transformers import GenerationConfig

KEPT = ("decoder_start_token_id", "forced_bos_token_id", "bad_words_ids")
"""What stays of a model's own generation config: how its texts begin, and ids that are none. Its beams, penalties and
least lengths do not: two models are compared by the same rule."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """One text: how many tokens the model read and wrote (the one that ended it included), and what stopped it: "end",
    a token of its own, or "limit", `max_new_tokens`."""

    text: str
    prompt_tokens: int
    tokens: int
    stopped: str


def write_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    device: torch.device,
    batch_size: int = 16,
    beams: int = 1,
    sample: bool = False,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> list[str]:
    """What `model` writes for each of `prompts` (token ids), in their order, without special tokens.

    Greedily, with `beams` beams, or drawn (`sample`, by torch's random state) at `temperature` from the most likely
    tokens that hold `top_p` of the probability. What other prompts are in a batch changes nothing but rounding. Prompts
    are read, and cut, as by `write_batches`.
    """
    how: dict[str, Any] = {"num_beams": beams, "do_sample": sample}
    if sample:
        how |= {"temperature": temperature, "top_p": top_p, "top_k": 0}
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))  # like lengths together; the largest first
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    answers = [""] * len(prompts)
    written = write_batches(
        model, tokenizer, prompts, batches, max_new_tokens=max_new_tokens, device=device, options=how
    )
    for batch, found in zip(batches, written, strict=True):
        for i, answer in zip(batch, found, strict=True):
            answers[i] = answer.text
    return answers


def write_batches(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    batches: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    device: torch.device,
    options: Mapping[str, Any] | None = None,
    processors: Callable[[int], Sequence[Any]] = lambda _: (),
) -> Iterator[list[Written]]:
    """What `model` writes for each of `batches`, which are indices into `prompts` (token ids), one batch after the
    other.

    A causal model continues its prompt; the encoder of an encoder-decoder model reads it. A prompt that leaves no room
    is cut, a causal model's on the left, an encoder's on the right, and that is said. Greedily, unless `options` for
    transformers' generation config say otherwise, or the logits processors that `processors(i)` gives for batch i.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # under a peft wrapper
    seq2seq = is_seq2seq(inner)
    asked = _fitted(inner, prompts, max_new_tokens)
    how = _how(inner, tokenizer, max_new_tokens)
    for name, value in (options or {}).items():
        setattr(how, name, value)
    for number, batch in enumerate(batches):
        chosen = [asked[i] for i in batch]
        ids_BT, mask_BT = _padded(chosen, how.pad_token_id, left=not seq2seq)
        with evaluating(model), torch.no_grad(), _own_settings_aside(inner):
            written_BT = inner.generate(
                input_ids=ids_BT.to(device),
                attention_mask=mask_BT.to(device),
                generation_config=how,
                logits_processor=list(processors(number)),
            )
        written_BT = written_BT[:, 1 if seq2seq else ids_BT.shape[1] :]
        ends = set(how.eos_token_id or ())
        yield [
            _read(tokenizer, ids, ends=ends, prompt_tokens=len(prompt))
            for ids, prompt in zip(written_BT.tolist(), chosen, strict=True)
        ]


def _read(tokenizer: Any, ids: list[int], *, ends: set[int], prompt_tokens: int) -> Written:
    """A text and its tokens, up to the first of `ends`; what follows it is padding."""
    last = next((t for t, token in enumerate(ids) if token in ends), None)
    kept = ids if last is None else ids[: last + 1]
    text = str(tokenizer.decode(kept, skip_special_tokens=True))
    stopped = "limit" if last is None else "end"
    return Written(text=text, prompt_tokens=prompt_tokens, tokens=len(kept), stopped=stopped)


def _fitted(model: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
    """The prompts, none longer than what the model has positions for."""
    asked = [list(prompt) for prompt in prompts]
    assert all(asked), "an empty prompt"
    context = getattr(model.config, "max_position_embeddings", None)
    if not context:
        return asked
    room = context if is_seq2seq(model) else max(1, context - max_new_tokens)
    longer = sum(len(prompt) > room for prompt in asked)
    if longer:
        say(f"{type(model).__name__}: {longer} of {len(asked)} prompts are cut to the {room} tokens it has room for")
    return [prompt[:room] if is_seq2seq(model) else prompt[-room:] for prompt in asked]


def _how(model: Any, tokenizer: Any, max_new_tokens: int) -> GenerationConfig:
    """How long a text may be, how it begins and what ends it."""
    from transformers import GenerationConfig

    own, config = model.generation_config, model.config
    ends = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    ends = sorted({end for end in (*ends, tokenizer.eos_token_id) if end is not None})
    # a model that shares but some ids with the tokenizer (`loss.vocab=shared`) may have no entry for its pad token
    entries = model.get_input_embeddings().weight.shape[0]
    pads = (tokenizer.pad_token_id, tokenizer.eos_token_id, config.pad_token_id, *ends)
    pad = next((pad for pad in pads if pad is not None and pad < entries), 0)
    how = GenerationConfig(max_new_tokens=max_new_tokens, pad_token_id=pad, eos_token_id=ends or None, use_cache=True)
    if is_seq2seq(model):
        for name in KEPT:
            setattr(how, name, getattr(own, name, None))
        if how.decoder_start_token_id is None:
            how.decoder_start_token_id = getattr(config, "decoder_start_token_id", None)
        _begin_in_language(how, model, tokenizer)
        positions = getattr(config, "max_position_embeddings", None)
        how.max_new_tokens = min(max_new_tokens, positions - 1) if positions else max_new_tokens
    return how


def _begin_in_language(how: GenerationConfig, model: Any, tokenizer: Any) -> None:
    """mBART's texts begin with the language of its tokenizer (`tgt_lang`); those of mBART-50 and NLLB
    have it second."""
    language = getattr(tokenizer, "tgt_lang", None)
    spoken = None if language is None else tokenizer.convert_tokens_to_ids(language)
    if how.decoder_start_token_id is not None:
        how.forced_bos_token_id = how.forced_bos_token_id if spoken is None else spoken
    elif spoken is not None:
        how.decoder_start_token_id = spoken
    else:
        raise ValueError(
            f"{type(model).__name__}: nothing says what its texts begin with; set tgt_lang in its "
            "tokenizer_config.json, or decoder_start_token_id in its generation_config.json"
        )


@contextmanager
def _own_settings_aside(model: Any) -> Iterator[None]:
    """Without the model's own generation config, from which transformers would fill in what we leave open."""
    from transformers import GenerationConfig

    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def _padded(prompts: list[list[int]], pad: int, *, left: bool) -> tuple[Tensor, Tensor]:
    """Ids and attention mask `[B, T]`."""
    width = max(len(prompt) for prompt in prompts)
    ids_BT = torch.full((len(prompts), width), pad)
    mask_BT = torch.zeros_like(ids_BT)
    for b, prompt in enumerate(prompts):
        span = slice(width - len(prompt), None) if left else slice(0, len(prompt))
        ids_BT[b, span] = torch.tensor(prompt)
        mask_BT[b, span] = 1
    return ids_BT, mask_BT
