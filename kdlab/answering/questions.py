"""What a model is asked: the rows of a dataset as questions, each with the answer that the row itself gives.

Rows are read as for training (`data.sources`, `text.formats`), a question is worded by `prompt`, rendered by the
tokenizer's chat template with its generation prompt (`dataset.template` in its place), and by kdlab's plain template
where it has none: as `kdlab train` teaches.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError, TemplateSyntaxError

from kdlab.data.files import looks_local
from kdlab.data.sources import open_source
from kdlab.data.tokens import documents, understand
from kdlab.data.verdict import Reading
from kdlab.models.progress import say
from kdlab.text.encoding import Encoder
from kdlab.text.formats import Document, Messages, SkipRow, Wording
from kdlab.text.prompts import worded
from kdlab.text.templates import read_template, source_text

if TYPE_CHECKING:
    from kdlab.data.dataset import DatasetConfig


@dataclass(frozen=True, kw_only=True)
class Question:
    """`row` is the row of the source, from 0; `text` what it asks, as it stands there; `system` what it says before
    that, or None; `reference` its own answer; `prompt` the token ids that a model reads."""

    row: int
    text: str
    system: str | None
    reference: str
    prompt: list[int]


@dataclass(kw_only=True)
class Questions:
    """The questions in the order of their rows, and how the rows were read. `longer` counts conversations that go on
    after the first answer: the rest is not asked."""

    reading: Reading
    asked: list[Question] = field(default_factory=list)
    longer: int = 0

    def __str__(self) -> str:
        said = f"dataset {self.reading}\n  {len(self.asked):,} questions"
        return said + (f"; of {self.longer:,} conversations the first one only" if self.longer else "")

    def as_dict(self) -> dict[str, Any]:
        """For the record."""
        return {**asdict(self.reading), "longer": self.longer, "fingerprint": self.fingerprint}

    @property
    def fingerprint(self) -> str:
        """A hash of all that is asked, and of the references."""
        parts = [[q.row, q.text, q.system, q.reference, q.prompt] for q in self.asked]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def read_questions(
    dataset: DatasetConfig, tokenizer: Any, *, seq2seq: bool, wording: str, examples: int | None
) -> Questions:
    """The first `examples` questions (None: all) of `dataset.path`, `dataset.split`, worded by `wording`
    (`{question}`, `{answer}`: `text.prompts`).

    Of a conversation it is the first question. Raises FileNotFoundError or ValueError for rows that are not there,
    cannot be read, or ask nothing.
    """
    source = open_source(
        dataset.path,
        subset=dataset.subset,
        split=_split(dataset),
        revision=dataset.revision,
        streaming=dataset.streaming,
    )
    template = read_template(dataset.template) if dataset.template is not None else None
    encoder = Encoder(tokenizer, template=template, seq2seq=seq2seq)
    if tokenizer.chat_template is None and template is None and not seq2seq:
        say("the tokenizer has no chat template: questions are put in kdlab's plain one (### Instruction: ...)")
    plain = Wording(
        prefix=dataset.prefix, source_language=dataset.source_language, target_language=dataset.target_language
    )
    reading, form, rows = understand(
        source, encoder, format_name=dataset.format, wording=plain, num_samples=dataset.num_samples
    )
    if form.name == "text":
        raise ValueError(f"{source.typed}: its rows are plain text and ask nothing; give rows with question and answer")
    found = Questions(reading=reading)
    for row, document in documents(rows, form, plain, reading):
        try:
            found.asked.append(_question(row, document, encoder, wording, found))
            reading.documents += 1
        except SkipRow as reason:
            reading.skip(str(reason), row)
        if len(found.asked) == examples:
            break
    if not found.asked:
        raise ValueError(f"{source.typed}: no row asks anything; {' '.join(str(reading).split())}")
    return found


def _split(dataset: DatasetConfig) -> str:
    """The split to read. A file that is named is read whole: a preset (dataset=gsm8k_test) may name the hub's split."""
    if dataset.split == "train" or not looks_local(dataset.path) or Path(dataset.path).expanduser().is_dir():
        return dataset.split
    say(f"dataset.split={dataset.split}: a file has no splits; all of dataset.path={dataset.path} is asked")
    return "train"


def _question(row: int, document: Document, encoder: Encoder, wording: str, found: Questions) -> Question:
    """The first question of a conversation. Raises SkipRow where the template refuses it."""
    assert not isinstance(document, str)
    answer = next(
        i for i, message in enumerate(document) if message["role"] == "assistant" and message["content"].strip()
    )
    found.longer += any(message["role"] == "assistant" for message in document[answer + 1 :])
    before = document[:answer]
    told = [message["content"] for message in before if message["role"] == "system"]
    asked = [message["content"] for message in before if message["role"] not in ("system", "assistant")]
    put = worded(document, wording)
    assert not isinstance(put, str)
    return Question(
        row=row,
        text="\n\n".join(asked),
        system="\n\n".join(told) or None,
        reference=document[answer]["content"],
        prompt=prompt_ids(put[:answer], encoder),
    )


def prompt_ids(messages: Messages, encoder: Encoder) -> list[int]:
    """The token ids of a question: what an encoder reads, or a conversation that the assistant is to continue. Raises
    SkipRow where the template refuses it."""
    tokenizer = encoder.tokenizer
    if encoder.seq2seq:
        return list(tokenizer(source_text(messages))["input_ids"])
    try:
        text = tokenizer.apply_chat_template(
            messages, chat_template=encoder.template, tokenize=False, add_generation_prompt=True
        )
    except TemplateSyntaxError as error:
        raise ValueError(f"dataset.template: line {error.lineno}: {error.message}") from error
    except TemplateError as error:
        raise SkipRow(f"the chat template refused it ({error})") from error
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
