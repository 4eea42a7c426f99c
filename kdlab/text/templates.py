"""Chat templates: the tokenizer's own, a file of the user's, or the plain one for tokenizers that have none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

PLAIN = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '### Response:\n' + message['content'] + eos_token + ('' if loop.last else '\n\n') }}"
    "{% elif message['role'] == 'tool' %}{{ '### Input:\n' + message['content'] + '\n\n' }}"
    "{% else %}{{ '### Instruction:\n' + message['content'] + '\n\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
)
"""The template of a tokenizer without one (a base model). With EOS written as `</s>`:

    ### Instruction:
    {prompt}

    ### Response:
    {response}</s>

The response and its EOS are supervised. A system message stands before it as it is. The whole begins with BOS where
the tokenizer begins its texts with one.
"""

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


def read_template(path: str) -> str:
    """The jinja text of `dataset.template`. It sees what a chat template sees: `messages`, `add_generation_prompt`,
    `bos_token`, `eos_token`. Raises FileNotFoundError naming the option."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"dataset.template={path}: no such file; give the path of a jinja chat template")
    return file.read_text(encoding="utf-8")


def chat_template(tokenizer: Any, override: str | None = None) -> str:
    """The jinja template this tokenizer renders conversations with: `override`, else its own, else `PLAIN`."""
    if override is not None:
        return override
    if tokenizer.chat_template is not None:
        return str(tokenizer.get_chat_template())
    return ("{{ bos_token }}" if _adds_bos(tokenizer) else "") + PLAIN


def marks_generation(template: str) -> bool:
    """Whether the template itself says where the assistant speaks, by `{% generation %}`."""
    return _GENERATION.search(template) is not None


def turn_end(tokenizer: Any, template: str) -> int | None:
    """The id the template ends an assistant's turn with: the first special token it writes behind one, else EOS (which
    the encoder appends); None where it has neither."""
    probe = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "kdlab"}]
    end: int | None = tokenizer.eos_token_id
    try:
        tail = str(tokenizer.apply_chat_template(probe, chat_template=template, tokenize=False)).rpartition("kdlab")[2]
    except TemplateError:
        return end  # the rows will say it, one by one
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return next((i for i in tokenizer(tail, add_special_tokens=False)["input_ids"] if i in special), end)


def source_text(messages: list[dict[str, str]]) -> str:
    """A conversation as the plain text an encoder reads: its messages, a line break between them. Where it is more than
    one question, the roles of all but the system are written too ("user: ", "assistant: ")."""
    several = sum(message["role"] != "system" for message in messages) > 1
    return "\n".join(
        f"{m['role']}: {m['content']}" if several and m["role"] != "system" else m["content"] for m in messages
    )


def _adds_bos(tokenizer: Any) -> bool:
    ids = tokenizer("a")["input_ids"]
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]
