"""Documents to token ids and the mask of the tokens that are supervised.

The assistant's part of a conversation is found without trusting the template to mark it. With r(m) the rendered text
of messages m, turn i of a conversation of n turns spans the characters from the end of r(m[:i], with the generation
prompt) to the end of r(m[:i+1]); both must be a beginning of r(m[:n]), and the content must lie between them. The
tokenizer's character offsets turn spans into tokens. Where a template writes the last turn otherwise than earlier ones
(Qwen 3's empty thoughts), the content itself tells the end. Templates with `{% generation %}` are taken at their word.

Supervised is what the assistant says and the token that ends its turn (EOS, `<|im_end|>`, ...), not the line break
that templates put behind it. Where a template ends a conversation without such a token, EOS is appended, supervised.
Plain text is supervised throughout and ends with EOS, else a student would never learn to stop.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import TemplateError, TemplateSyntaxError
from numpy.typing import NDArray

from kdlab.text.formats import Document, Messages, SkipRow
from kdlab.text.templates import chat_template, marks_generation

Spans = list[tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Token ids `[T]` and whether each is a target `[T]`. `chat` says it was a conversation, not plain text; `row` is
    the row of the source that the document was made of, from 0."""

    input_ids: NDArray[np.int32]
    supervised: NDArray[np.bool_]
    chat: bool
    row: int = 0


class Encoder:
    """Encodes documents with one tokenizer, template and choice of what is supervised ("response" or "all")."""

    def __init__(self, tokenizer: Any, *, template: str | None = None, supervise: str = "response") -> None:
        self.tokenizer = tokenizer
        self.supervise = supervise
        self.template = chat_template(tokenizer, template)
        self._ends: frozenset[int] | None = None

    @property
    def vocabulary(self) -> int:
        return len(self.tokenizer)

    def fingerprint(self) -> str:
        """A hash of all that decides which ids a document gets."""
        if self.tokenizer.is_fast:
            state = json.loads(self.tokenizer.backend_tokenizer.to_str())
            state.pop("truncation", None)
            state.pop("padding", None)
        else:
            state = {"class": type(self.tokenizer).__name__, "vocabulary": self.tokenizer.get_vocab()}
        named = {k: str(v) for k, v in self.tokenizer.special_tokens_map.items()}
        parts = [state, named, self.tokenizer("a")["input_ids"], self.template, self.supervise]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def encode(self, documents: Sequence[Document]) -> list[Encoded | SkipRow]:
        """One `Encoded` a document, or the reason why there is none.

        Raises ValueError where the template hides where the assistant's turn begins or ends.
        """
        results: dict[int, Encoded | SkipRow] = {}
        texts = [i for i, document in enumerate(documents) if isinstance(document, str)]
        if texts:
            all_ids = self._tokenise([str(documents[i]) for i in texts], special=True)["input_ids"]
            for i, found in zip(texts, all_ids, strict=True):
                ids = self._ended(found)
                results[i] = Encoded(input_ids=_ids(ids), supervised=np.ones(len(ids), bool), chat=False)
        chats = {i: document for i, document in enumerate(documents) if not isinstance(document, str)}
        if chats:
            results |= self._encode_chats(chats)
        return [results[i] for i in range(len(documents))]

    def _ended(self, ids: list[int]) -> list[int]:
        """A plain text with EOS at its end, where the tokenizer has one and did not put it there itself."""
        end = self.tokenizer.eos_token_id
        return ids if end is None or ids[-1:] == [end] else [*ids, end]

    def _encode_chats(self, chats: dict[int, Messages]) -> dict[int, Encoded | SkipRow]:
        if self._ends is None:
            self._ends = self._end_tokens()
        results: dict[int, Encoded | SkipRow] = {}
        rendered: dict[int, tuple[str, Spans]] = {}
        marked = self.supervise == "response" and self.tokenizer.is_fast and marks_generation(self.template)
        for i, messages in chats.items():
            try:
                if marked:
                    results[i] = self._marked(messages)
                else:
                    rendered[i] = self._spans(messages)
            except TemplateSyntaxError as error:
                raise ValueError(f"dataset.template: line {error.lineno}: {error.message}") from error
            except TemplateError as error:
                results[i] = SkipRow(f"the chat template refused it ({error})")
        if rendered:
            tokens = self._tokenise([text for text, _ in rendered.values()], special=False)
            for k, (i, (text, spans)) in enumerate(rendered.items()):
                ids = _ids(tokens["input_ids"][k])
                if self.supervise == "all":
                    mask = np.ones(len(ids), bool)
                elif self.tokenizer.is_fast:
                    mask = _inside(np.array(tokens["offset_mapping"][k], np.int64).reshape(-1, 2)[:, 0], spans)
                else:
                    mask = self._inside_by_prefixes(ids, text, spans)
                results[i] = self._settle(chats[i], ids, mask)
        return results

    def _tokenise(self, texts: list[str], *, special: bool) -> Any:
        return self.tokenizer(
            texts,
            add_special_tokens=special,
            padding=False,
            truncation=False,
            return_attention_mask=False,
            return_offsets_mapping=self.tokenizer.is_fast and not special,
            verbose=False,
        )

    def _render(self, messages: Messages, *, prompt: bool = False) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                messages, chat_template=self.template, tokenize=False, add_generation_prompt=prompt
            )
        )

    def _spans(self, messages: Messages) -> tuple[str, Spans]:
        """The rendered conversation and the character spans that are supervised."""
        text = self._render(messages)
        spans: Spans = []
        if self.supervise == "all":
            return text, spans
        for i, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._render(messages[:i], prompt=True)
            start = _shared(before, text)
            headless = start == len(before) or text.startswith(self._render(messages[:i]))
            after = text if i + 1 == len(messages) else self._render(messages[: i + 1])
            end, said = _shared(after, text), message["content"].strip()
            if said not in text[start:end] and text[start:].lstrip().startswith(said):
                end = text.index(said, start) + len(said)  # a turn is written otherwise where it is the last
            if not headless or said not in text[start:end]:
                raise ValueError(
                    "dataset.supervise=response: the chat template rewrites earlier turns, so the assistant's part "
                    "cannot be told; mark it by {% generation %} in a file given as dataset.template=..., or use "
                    "dataset.supervise=all"
                )
            spans.append((start, end))
        return text, spans

    def _marked(self, messages: Messages) -> Encoded:
        """The mask as a template with `{% generation %}` gives it."""
        tokens = self.tokenizer.apply_chat_template(
            messages,
            chat_template=self.template,
            return_dict=True,
            return_assistant_tokens_mask=True,
            tokenizer_kwargs={"return_offsets_mapping": True, "return_attention_mask": False, "verbose": False},
        )
        mask = np.array(tokens["assistant_masks"], bool)
        # transformers stops at the first token of the last character; an emoji may have several.
        starts, ends = np.array(tokens["offset_mapping"], np.int64).reshape(-1, 2).T
        for t in np.flatnonzero(np.diff(mask.astype(np.int8)) == -1) + 1:
            while t < len(mask) and starts[t] < ends[t - 1]:
                mask[t] = True
                t += 1
        return self._settle(messages, _ids(tokens["input_ids"]), mask)

    def _inside_by_prefixes(self, ids: NDArray[np.int32], text: str, spans: Spans) -> NDArray[np.bool_]:
        """As `_inside`, for tokenizers without character offsets: the ids of a beginning must begin the whole's."""
        mask = np.zeros(len(ids), bool)
        for start, end in spans:
            head, both = (_ids(x) for x in self._tokenise([text[:start], text[:end]], special=False)["input_ids"])
            if not (np.array_equal(ids[: len(head)], head) and np.array_equal(ids[: len(both)], both)):
                raise ValueError(
                    f"dataset.supervise=response: {type(self.tokenizer).__name__} gives no character offsets and joins "
                    "tokens across the end of a prompt; use a fast tokenizer or dataset.supervise=all"
                )
            mask[len(head) : len(both)] = True
        return mask

    def _settle(self, messages: Messages, ids: NDArray[np.int32], mask: NDArray[np.bool_]) -> Encoded:
        """Ends each supervised run with its end token: takes it in, drops blanks behind it, adds a missing EOS."""
        assert self._ends is not None
        is_end = np.isin(ids, list(self._ends))
        edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
        ended = False
        for begin, end in edges.reshape(-1, 2).tolist():
            inside = np.flatnonzero(is_end[begin:end])
            last = begin + int(inside[-1]) + 1 if len(inside) else begin
            ended = last > begin and not self.tokenizer.decode(ids[last:end], skip_special_tokens=False).strip()
            if ended and self.supervise == "response":
                mask[last:end] = False
            elif not ended and end < len(ids) and is_end[end]:
                mask[end] = ended = True
        if messages[-1]["role"] == "assistant" and mask.any() and not ended:
            ids, mask = np.append(ids, np.int32(self._eos())), np.append(mask, True)
        return Encoded(input_ids=ids, supervised=mask, chat=True)

    def _end_tokens(self) -> frozenset[int]:
        """EOS, and the first special token the template writes behind an assistant's turn."""
        ends = {self._eos()}
        probe = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "kdlab"}]
        try:
            tail = self._render(probe).rpartition("kdlab")[2]
        except TemplateError:
            return frozenset(ends)  # the rows will say it, one by one
        special = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        behind = [i for i in self.tokenizer(tail, add_special_tokens=False)["input_ids"] if i in special]
        return frozenset(ends | set(behind[:1]))

    def _eos(self) -> int:
        if self.tokenizer.eos_token_id is None:
            raise ValueError("student.tokenizer: it has no EOS token, so no response could ever end; set its eos_token")
        return int(self.tokenizer.eos_token_id)


def _ids(ids: Sequence[int]) -> NDArray[np.int32]:
    return np.array(ids, np.int32)


def _shared(beginning: str, text: str) -> int:
    """How many characters the two begin with alike."""
    if text.startswith(beginning):
        return len(beginning)
    return next(
        (i for i, (a, b) in enumerate(zip(beginning, text, strict=False)) if a != b), min(len(beginning), len(text))
    )


def _inside(starts: NDArray[np.int64], spans: Spans) -> NDArray[np.bool_]:
    """Which tokens start inside a span. One that straddles its beginning belongs to the prompt."""
    mask = np.zeros(len(starts), bool)
    for start, end in spans:
        mask |= (starts >= start) & (starts < end)
    return mask
