"""What a finished model answers to texts: a class with its probability, a number, or how a text goes on.

    for answer in predict(open_variant("multirun/export/default/onnx_int8"), [{"text": "Where is my card?"}]): ...

Shape letters: C classes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kdlab.data.labelled.reading import text_of
from kdlab.exporting.variants import CLASSIFIER, Variant, log_softmax
from kdlab.models.progress import say
from kdlab.text.fields import FieldTemplate
from kdlab.text.formats import SkipRow

TEXT = "text"


def fields_of(variant: Variant) -> list[str]:
    """The columns that a row has to have."""
    return FieldTemplate(variant.task.template).fields if variant.task is not None else [TEXT]


def check_rows(variant: Variant, rows: Sequence[Mapping[str, Any]], *, name: str, chat: bool = False) -> None:
    """Raise ValueError, with its number from 1, for a row without a column that the model reads, or with nothing to
    read there: a classifier learnt from none with a blank column. Columns that are not read are no harm, and are said.
    """
    wanted = fields_of(variant)
    for number, row in enumerate(rows, start=1):
        lacking = [field for field in wanted if field not in row]
        if lacking:
            raise ValueError(
                f"{name}: text {number} has no {lacking[0]!r}, but {', '.join(row) or 'nothing'}; this model reads "
                f"{' and '.join(wanted)}"
            )
        try:
            _refuse_nothing(variant, row, chat)
        except ValueError as error:
            raise ValueError(f"{name}: text {number}: {error}") from error
    unread = sorted({column for row in rows for column in row} - set(wanted))
    if unread:
        say(f"{name}: not read: {', '.join(unread)}")


def _refuse_nothing(variant: Variant, row: Mapping[str, Any], chat: bool) -> None:
    if variant.kind == CLASSIFIER:
        try:
            for field in fields_of(variant):
                text_of(dict(row), field)
        except SkipRow as reason:
            raise ValueError(f"{str(reason).removeprefix('whose ')}; give text there, or leave it out") from reason
        return
    if not isinstance(row[TEXT], str):
        raise ValueError(f"{TEXT} is not text")
    prompt_ids(variant, row[TEXT], chat=chat)


def predict(
    variant: Variant, rows: Sequence[Mapping[str, str]], *, max_new_tokens: int = 64, chat: bool = False
) -> Iterator[dict[str, Any]]:
    """One answer a row, as plain values, with `milliseconds`: that of tokenising and of the model.

    A classifier's: `label`, `probability`, `probabilities` by name, the highest first; where it predicts a number,
    `value`. `cut` tokens were left out of a text that is longer than it reads. Of a model that writes: `completion`,
    `tokens`, `log_probability` (nats, their sum) and `stopped`; with `chat` the text is what a user says, put into the
    tokenizer's chat template.

    Raises ValueError for an empty text, and where there is no chat template.
    """
    _warm(variant)
    for row in rows:
        began = time.perf_counter()
        answer = _decided(variant, row) if variant.kind == CLASSIFIER else _written(variant, row, max_new_tokens, chat)
        yield answer | {"milliseconds": 1000 * (time.perf_counter() - began)}


def _warm(variant: Variant) -> None:
    """The first call of a model allocates what the others reuse: it is not timed."""
    ids_BT, mask_BT = variant.padded([[int(variant.pad_id == 0)] * 8])
    variant.forward(ids_BT, mask_BT)


def _decided(variant: Variant, row: Mapping[str, str]) -> dict[str, Any]:
    task = variant.task
    assert task is not None
    ids, cut = FieldTemplate(task.template).encode(variant.tokenizer, [row], task.max_length)
    if not ids[0]:
        raise ValueError(f"{variant.name}: an empty text; give one with at least a letter")
    logits_C = variant.logits(ids)[0]
    if task.is_regression:
        return {"column": task.column, "value": float(logits_C[0]), "cut": cut[0]}
    probabilities_C = np.exp(log_softmax(logits_C))
    order = [int(i) for i in np.argsort(-probabilities_C, kind="stable")]
    return {
        "label": task.names[order[0]],
        "probability": float(probabilities_C[order[0]]),
        "probabilities": {task.names[i]: float(probabilities_C[i]) for i in order},
        "cut": cut[0],
    }


def _written(variant: Variant, row: Mapping[str, str], max_new_tokens: int, chat: bool) -> dict[str, Any]:
    written = variant.complete(prompt_ids(variant, row[TEXT], chat=chat), max_new_tokens=max_new_tokens)
    return {
        "completion": written.text,
        "tokens": written.tokens,
        "log_probability": written.log_probability,
        "stopped": written.stopped,
    }


def prompt_ids(variant: Variant, text: str, *, chat: bool) -> list[int]:
    """A prompt as token ids, without a token at its end that would end the text there."""
    tokenizer = variant.tokenizer
    if chat:
        if not tokenizer.chat_template:
            raise ValueError("the tokenizer has no chat template; leave out --chat")
        said = [{"role": "user", "content": text}]
        asked = tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
        return [int(token) for token in tokenizer(asked, add_special_tokens=False)["input_ids"]]
    ids = [int(token) for token in tokenizer(text)["input_ids"]]
    while ids and ids[-1] in variant.ends:
        ids.pop()
    if not ids:
        raise ValueError("an empty prompt; give one with at least a letter")
    return ids
