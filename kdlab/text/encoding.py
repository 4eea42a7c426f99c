"""Documents to token ids and the mask of the tokens that are supervised.

Supervised is what the assistant says and the token that ends its turn (EOS, `<|im_end|>`, ...), not the line break
that templates put behind it. Where a template ends a conversation without such a token, EOS is appended, supervised.
Plain text is supervised throughout and ends with EOS, else a student would never learn to stop.

An encoder-decoder model reads no chat template: its source is the conversation before the last assistant turn as plain
text (`templates.source_text`) and its target that turn, all of it supervised, with EOS at its end.

Two tokenizers that read one document meet in its bytes (`bytes_too`). The stream of a plain text is its UTF-8 and one
byte more for the token that ends it; of a conversation, the UTF-8 of each assistant turn, each with one byte more for
the token that ends the turn. It is the same for every tokenizer and template.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jinja2 import TemplateError, TemplateSyntaxError
from numpy.typing import NDArray

from kdlab.text.byte_spans import ByteSpans
from kdlab.text.formats import Document, Messages, SkipRow
from kdlab.text.streams import Stream
from kdlab.text.templates import chat_template, marks_generation, source_text, turn_end
from kdlab.text.tokenizer_state import state_of
from kdlab.text.turns import Spans, inside, said_in_runs, said_in_spans, turn_spans


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Token ids `[T]` and whether each is a target `[T]`. `chat` says it was a conversation, not plain text; `row` is
    the row of the source that the document was made of, from 0.

    `source` `[S]` is what an encoder reads; `input_ids` are then what the decoder is to write. `starts`, `ends` `[T]`
    tell where in the stream of the document's bytes each of the `input_ids` lies (-1: nowhere).
    """

    input_ids: NDArray[np.int32]
    supervised: NDArray[np.bool_]
    chat: bool
    row: int = 0
    source: NDArray[np.int32] | None = None
    starts: NDArray[np.int32] | None = None
    ends: NDArray[np.int32] | None = None


class Encoder:
    """Encodes documents with one tokenizer, template and choice of what is supervised ("response" or "all").

    `seq2seq`: for an encoder-decoder model. `bytes_too`: with the bytes of each token, for two tokenizers.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        template: str | None = None,
        supervise: str = "response",
        seq2seq: bool = False,
        bytes_too: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.supervise = supervise
        self.seq2seq = seq2seq
        self.template = chat_template(tokenizer, template)
        self._bytes = ByteSpans(tokenizer) if bytes_too else None
        self._special = frozenset(tokenizer.all_special_ids)
        self._ends: frozenset[int] | None = None
        if seq2seq and template is not None:
            raise ValueError(
                "dataset.template: an encoder-decoder model reads plain text, not a chat template; drop it"
            )
        if seq2seq and supervise == "all":
            raise ValueError("dataset.supervise=all: an encoder-decoder model predicts its target only; use response")

    @property
    def vocabulary(self) -> int:
        return len(self.tokenizer)

    def fingerprint(self) -> str:
        """A hash of all that decides which ids a document gets."""
        named = {k: str(v) for k, v in self.tokenizer.special_tokens_map.items()}
        parts = [state_of(self.tokenizer), named, self.tokenizer("a")["input_ids"], self.template, self.supervise]
        parts += [self.seq2seq, self._bytes is not None]
        if self.seq2seq:  # a target may be in another language than the source, and marked by it
            parts.append(self.tokenizer(text_target="a")["input_ids"])
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def encode(self, documents: Sequence[Document]) -> list[Encoded | SkipRow]:
        """One `Encoded` a document, or the reason why there is none.

        Raises ValueError where the template hides where the assistant's turn begins or ends.
        """
        results: dict[int, Encoded | SkipRow] = {}
        texts = {i: document for i, document in enumerate(documents) if isinstance(document, str)}
        chats = {i: document for i, document in enumerate(documents) if not isinstance(document, str)}
        if self.seq2seq:
            reason = "that are plain text: an encoder-decoder model needs a source and a target"
            results |= {i: SkipRow(reason) for i in texts} | (self._encode_pairs(chats) if chats else {})
        else:
            results |= self._encode_texts(texts) if texts else {}
            results |= self._encode_chats(chats) if chats else {}
        return [results[i] for i in range(len(documents))]

    def _encode_texts(self, texts: dict[int, str]) -> dict[int, Encoded | SkipRow]:
        tokens = self._tokenise(list(texts.values()), special=True)
        ends = [] if self.tokenizer.eos_token_id is None else [self._eos()]
        results: dict[int, Encoded | SkipRow] = {}
        for k, (i, text) in enumerate(texts.items()):
            ids = _ids(self._ended(tokens["input_ids"][k]))
            encoded = Encoded(input_ids=ids, supervised=np.ones(len(ids), bool), chat=False)
            if self._bytes is not None:
                encoded = self._placed(encoded, Stream.of_text(text, ends=ends), _offsets(tokens, k))
            results[i] = encoded
        return results

    def _encode_pairs(self, chats: dict[int, Messages]) -> dict[int, Encoded | SkipRow]:
        """For an encoder-decoder model. Labels are what transformers makes of `text_target`, BART's <s> included."""
        end, turns = self._eos(), {i: _last_turn(messages) for i, messages in chats.items()}
        sources = self._tokenise([source_text(chats[i][:turn]) for i, turn in turns.items()], special=True)
        tokens = self._tokenise([chats[i][turn]["content"] for i, turn in turns.items()], special=True, target=True)
        results: dict[int, Encoded | SkipRow] = {}
        for k, (i, turn) in enumerate(turns.items()):
            found = tokens["input_ids"][k]
            while found[-2:] == [end, end]:
                found = found[:-1]  # the text spelt one out, and the tokenizer put another behind it
            ids, source = _ids(self._written(found)), _ids(sources["input_ids"][k])
            encoded = Encoded(input_ids=ids, supervised=np.ones(len(ids), bool), chat=True, source=source)
            if self._bytes is not None:
                stream = Stream.of_target(chats[i], turn, ends=[end])
                encoded = self._placed(encoded, stream, _offsets(tokens, k))
            results[i] = encoded
        return results

    def _ended(self, ids: list[int]) -> list[int]:
        """A text with EOS at its end, where the tokenizer has one and did not put it there itself."""
        end = self.tokenizer.eos_token_id
        return ids if end is None or ids[-1:] == [end] else [*ids, end]

    def _written(self, ids: list[int]) -> list[int]:
        """As `_ended`, for what a decoder writes: mBART's tokenizer puts the language behind EOS."""
        return ids if ids[-2:-1] == [self._eos()] and ids[-1] in self._special else self._ended(ids)

    def _encode_chats(self, chats: dict[int, Messages]) -> dict[int, Encoded | SkipRow]:
        if self._ends is None:
            end = turn_end(self.tokenizer, self.template)
            self._ends = frozenset({self._eos()} | ({end} if end is not None else set()))
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
                ids, offsets = _ids(tokens["input_ids"][k]), _offsets(tokens, k)
                if self.supervise == "all":
                    mask = np.ones(len(ids), bool)
                elif offsets is not None:
                    mask = inside(offsets[:, 0], spans)
                else:
                    mask = self._inside_by_prefixes(ids, text, spans)
                encoded = self._settle(chats[i], ids, mask)
                if self._bytes is not None:
                    said = said_in_spans(text, chats[i], spans)
                    encoded = self._placed(encoded, Stream.of_chat(text, chats[i], said, ends=self._ends), offsets)
                results[i] = encoded
        return results

    def _tokenise(self, texts: list[str], *, special: bool, target: bool = False) -> Any:
        return self.tokenizer(
            **{"text_target" if target else "text": texts},
            add_special_tokens=special,
            padding=False,
            truncation=False,
            return_attention_mask=False,
            return_offsets_mapping=self.tokenizer.is_fast and (not special or self._bytes is not None),
            verbose=False,
        )

    def _placed(self, encoded: Encoded, stream: Stream, offsets: NDArray[np.int64] | None) -> Encoded:
        """With the place of each token in the stream. There may be an EOS more or less than `offsets`."""
        assert self._bytes is not None
        if offsets is not None:
            offsets = offsets[: len(encoded.input_ids)]
        starts, ends = stream.places(self._bytes, encoded.input_ids, offsets, special=self._special)
        return replace(encoded, starts=starts, ends=ends)

    def _render(self, messages: Messages, *, prompt: bool = False) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                messages, chat_template=self.template, tokenize=False, add_generation_prompt=prompt
            )
        )

    def _spans(self, messages: Messages) -> tuple[str, Spans]:
        """The rendered conversation and the characters of its assistant turns, where these are wanted."""
        if self.supervise == "all" and self._bytes is None:
            return self._render(messages), []
        text, spans = turn_spans(messages, self._render)
        if spans is None:
            other = "" if self._bytes is not None else ", or use dataset.supervise=all"
            raise ValueError(
                f"dataset.supervise={self.supervise}: the chat template rewrites earlier turns, so the assistant's "
                "part cannot be told; mark it by {% generation %} in a file given as dataset.template=..." + other
            )
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
        offsets = np.array(tokens["offset_mapping"], np.int64).reshape(-1, 2)
        starts, ends = offsets.T
        for t in np.flatnonzero(np.diff(mask.astype(np.int8)) == -1) + 1:
            while t < len(mask) and starts[t] < ends[t - 1]:
                mask[t] = True
                t += 1
        encoded = self._settle(messages, _ids(tokens["input_ids"]), mask.copy())
        if self._bytes is not None:
            assert self._ends is not None
            edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]]))).reshape(-1, 2)
            text, runs = self._render(messages), [(int(starts[a]), int(ends[b - 1])) for a, b in edges]
            said = said_in_runs(text, messages, runs)
            encoded = self._placed(encoded, Stream.of_chat(text, messages, said, ends=self._ends), offsets)
        return encoded

    def _inside_by_prefixes(self, ids: NDArray[np.int32], text: str, spans: Spans) -> NDArray[np.bool_]:
        """As `inside`, for tokenizers without character offsets: the ids of a beginning must begin those of all."""
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

    def _eos(self) -> int:
        if self.tokenizer.eos_token_id is None:
            raise ValueError("student.tokenizer: it has no EOS token, so no response could ever end; set its eos_token")
        return int(self.tokenizer.eos_token_id)


def _last_turn(messages: Messages) -> int:
    """The index of the assistant's last message that says something."""
    return max(i for i, m in enumerate(messages) if m["role"] == "assistant" and m["content"].strip())


def _offsets(tokens: Any, k: int) -> NDArray[np.int64] | None:
    """The character offsets of the k-th text's tokens `[T, 2]`, where they were asked for."""
    if "offset_mapping" not in tokens:
        return None
    return np.array(tokens["offset_mapping"][k], np.int64).reshape(-1, 2)


def _ids(ids: Sequence[int]) -> NDArray[np.int32]:
    return np.array(ids, np.int32)
