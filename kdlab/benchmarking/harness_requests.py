"""How much a task of lm-evaluation-harness asks of a model, from its first examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LOOKED_AT = 32
"""Examples of a task whose requests are made; the others are taken to be like them."""
WRITTEN = 256
"""Tokens that the package lets a model write where a task says nothing."""
LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""What tasks call that limit, the first that is there."""


@dataclass(frozen=True, kw_only=True)
class Requests:
    """Of one task and one model: `examples`, `requests`, tokens `read` with all their logits, tokens `written` at most,
    and the `steps` that takes in batches."""

    examples: int
    requests: int
    read: int
    written: int
    steps: int


def count_requests(task: Any, tokenizer: Any, *, limit: int | None, batch_size: int, chat: bool) -> Requests:
    """Of a task as lm-evaluation-harness loads it. Choices of one token that follow the same text are read once."""

    def template(talk: list[dict[str, str]], add_generation_prompt: bool = True) -> Any:
        return tokenizer.apply_chat_template(
            talk,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    examples = len(task.eval_docs) if limit is None else min(limit, len(task.eval_docs))
    looked = max(1, min(examples, LOOKED_AT))  # a task without any is refused by the package
    task.build_all_requests(
        limit=looked, apply_chat_template=chat, fewshot_as_multiturn=chat, chat_template=template if chat else None
    )
    read, written = {}, []
    for number, instance in enumerate(task.instances):
        asked = [argument for argument in instance.args if isinstance(argument, str)]
        ids = tuple(tokenizer("".join(asked))["input_ids"])
        generates = instance.request_type == "generate_until"
        read[(number,) if generates else ids[:-1]] = len(ids)
        if generates:
            told = next((instance.args[1][name] for name in LIMITS if name in instance.args[1]), WRITTEN)
            written += [int(told)] * (instance.repeats or 1)
    share = examples / looked
    steps = -(-round(len(written) * share) // batch_size) * max(written, default=0)
    return Requests(
        examples=examples,
        requests=round(len(task.instances) * share),
        read=round(sum(read.values()) * share),
        written=round(sum(written) * share),
        steps=steps,
    )
