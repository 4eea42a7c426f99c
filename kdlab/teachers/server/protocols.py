"""How servers are asked for the log-probabilities of a prompt, and how they answer.

    vllm      POST /completions with prompt_logprobs=k: for every token a table by id, with ranks
    sglang    POST /generate (beside /v1) with input_ids, top_logprobs_num=k: for every token lists by id
    llamacpp  POST /completions with logprobs=k, once a row: its server tells of the next token only, by id
    echo      POST /completions with echo, logprobs=k: for every token a table by text, or by "token_id:12"

Every prompt goes out as token ids. The entry of token t + 1 is the prediction at position t; the first token has none.
What an answer says is believed only where it fits the prompt: as many positions, and in each the prompt's own token.
Importable without torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from kdlab.teachers.server.answers import AnswerError, OtherProtocolError, Prediction, Text, TooFewError
from kdlab.teachers.server.names import TokenNames

LEAST = -9999.0
"""The log-probability of what is impossible (-inf and all below), as vLLM writes it: JSON has no -inf."""


@dataclass(kw_only=True)
class ServerProtocol:
    """`k` entries are asked for each token of `model`; `names` tells which id a text is."""

    model: str
    k: int
    names: TokenNames

    name: ClassVar[str]
    path: ClassVar[str] = "/completions"
    """After the url; beside its `/v1` where it begins with `//`."""

    def split(self, texts: Sequence[Text], size: int) -> list[list[Text]]:
        """The texts of each request, in the order of their rows."""
        return [list(texts[i : i + size]) for i in range(0, len(texts), size)]

    def body(self, texts: Sequence[Text]) -> dict[str, Any]:
        """What is sent to `path`."""
        raise TypeError(f"{type(self).__name__} does not say what it sends")

    def predictions(self, answer: Any, text: Text, place: int) -> list[Prediction]:
        """What the answer says of `text`, the one at `place` in the request, row by row."""
        raise TypeError(f"{type(self).__name__} does not read answers")

    def read(self, answer: Any, texts: Sequence[Text]) -> list[Prediction]:
        """The predictions at the rows of all texts, one text after the other. Raises AnswerError."""
        try:
            self._refuse_other_model(answer)
            return [found for place, text in enumerate(texts) for found in self.predictions(answer, text, place)]
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise AnswerError(f"not an answer as {self.name} gives ({type(error).__name__}: {error})") from error

    def _refuse_other_model(self, answer: Any) -> None:
        named = answer.get("model", self.model) if isinstance(answer, dict) else self.model
        if named != self.model:
            raise AnswerError(f"it is the model {named!r} that answers, not {self.model!r}", again=False)

    def _choice(self, answer: Any, place: int) -> dict[str, Any]:
        found = [choice for choice in answer["choices"] if choice.get("index", 0) == place]
        if len(found) != 1:
            raise AnswerError(f"{len(found)} answers to text {place + 1} of the request")
        choice: dict[str, Any] = found[0]
        return choice

    def _kept(self, table: Mapping[int, float], own: int | None, label: float | None) -> Prediction:
        """The k best of `table`. Of equals the lower id comes first, and the text's `own` token last: it is the one
        that may have been added to the k best."""
        for token, logp in table.items():
            if not isinstance(logp, int | float) or math.isnan(logp) or logp > 0:
                raise AnswerError(f"{logp!r} is no log-probability (of token {token})")
            if not 0 <= token < self.names.vocabulary:
                raise AnswerError(
                    f"token {token} is outside the vocabulary of {self.names.vocabulary} entries", again=False
                )
        best = sorted(table, key=lambda token: (-table[token], token == own, token))[: self.k]
        if len(best) < self.k:
            raise TooFewError(len(best), self.k)
        kept = [max(float(table[token]), LEAST) for token in best]
        if math.fsum(map(math.exp, kept)) > 1.001:
            raise AnswerError("probabilities that add up to more than 1")
        return Prediction(ids=best, logp=kept, label=None if label is None else max(float(label), LEAST))


class VLLM(ServerProtocol):
    """vLLM's `prompt_logprobs`: None, then for each token {id: {logprob, rank, decoded_token}}, the k best and the
    token itself. They are log-softmax of the raw logits, whatever the sampling temperature."""

    name = "vllm"

    def body(self, texts: Sequence[Text]) -> dict[str, Any]:
        return {
            "model": self.model,
            "prompt": [text.ids for text in texts],
            "max_tokens": 1,
            "temperature": 1.0,
            "prompt_logprobs": self.k,
        }

    def predictions(self, answer: Any, text: Text, place: int) -> list[Prediction]:
        given = self._choice(answer, place).get("prompt_logprobs")
        if not isinstance(given, list):
            raise OtherProtocolError("no prompt_logprobs")
        refuse_short(len(given), text)
        for token, entries in zip(text.ids[1:], given[1:], strict=True):
            if str(token) not in entries:
                raise AnswerError(f"tells of other tokens than were sent (token {token} is missing)")
            self.names.agree(token, entries[str(token)].get("decoded_token"))
            ranked = sum((entry.get("rank") or 1) <= self.k for entry in entries.values())
            if len(entries) <= self.k and ranked < self.k:  # the token itself may be there besides the best
                raise TooFewError(ranked, self.k)
        return [self._row(given[t + 1], text.ids[t + 1]) for t in text.rows]

    def _row(self, entries: dict[str, dict[str, Any]], own: int) -> Prediction:
        table = {int(token): entry["logprob"] for token, entry in entries.items()}
        return self._kept(table, own, table[own])


class SGLang(ServerProtocol):
    """SGLang's own `/generate`, which names tokens by id (its `/completions` by text): lists [logprob, id, text], the
    first None."""

    name = "sglang"
    path = "//generate"

    def body(self, texts: Sequence[Text]) -> dict[str, Any]:
        return {
            "input_ids": [text.ids for text in texts],
            "sampling_params": {"max_new_tokens": 0, "temperature": 1.0},
            "return_logprob": True,
            "logprob_start_len": 0,
            "top_logprobs_num": self.k,
            "return_text_in_logprobs": False,
        }

    def predictions(self, answer: Any, text: Text, place: int) -> list[Prediction]:
        if not isinstance(answer, list) or "meta_info" not in answer[place]:
            raise OtherProtocolError("no meta_info")
        told = answer[place]["meta_info"]
        own, top = told["input_token_logprobs"], told["input_top_logprobs"]
        refuse_short(min(len(own), len(top)), text)
        if [entry[1] for entry in own] != text.ids:
            raise AnswerError("tells of other tokens than were sent")
        found = []
        for t in text.rows:
            table = {token: logp for logp, token, *_ in top[t + 1]}
            found.append(self._kept(table, None, self._label(own[t + 1][0])))
        return found

    def _label(self, logp: float) -> float:
        if math.isnan(logp) or logp > 0:
            raise AnswerError(f"{logp!r} is no log-probability")
        return logp


class LlamaCpp(ServerProtocol):
    """llama.cpp's server tells only of the token that it writes next (`echo` is refused there), so every row is a
    request of its own, of the text up to it; its prompt cache reads each token once."""

    name = "llamacpp"

    def split(self, texts: Sequence[Text], size: int) -> list[list[Text]]:
        return [[Text(text.ids[: t + 1], [t])] for text in texts for t in text.rows]

    def body(self, texts: Sequence[Text]) -> dict[str, Any]:
        (text,) = texts
        return {
            "model": self.model,
            "prompt": text.ids,
            "max_tokens": 1,
            "temperature": 1.0,
            "logprobs": self.k,
            "n_probs": self.k,
            "cache_prompt": True,
        }

    def predictions(self, answer: Any, text: Text, place: int) -> list[Prediction]:
        refuse_short(answer["usage"]["prompt_tokens"], text)
        told = self._choice(answer, place).get("logprobs") or {}
        if "content" not in told:
            raise OtherProtocolError("no logprobs.content")
        table = {entry["id"]: entry["logprob"] for entry in told["content"][0]["top_logprobs"]}
        return [self._kept(table, None, None)]


class Echo(ServerProtocol):
    """The classic form of OpenAI's completions: `logprobs` with lists `tokens`, `token_logprobs`, `top_logprobs` over
    the prompt and one written token. Where entries are named by text, each must be the text of one token only."""

    name = "echo"

    def body(self, texts: Sequence[Text]) -> dict[str, Any]:
        return {
            "model": self.model,
            "prompt": [text.ids for text in texts],
            "max_tokens": 1,
            "temperature": 1.0,
            "echo": True,
            "logprobs": self.k,
            "return_tokens_as_token_ids": True,  # vLLM's; others pass over it
        }

    def predictions(self, answer: Any, text: Text, place: int) -> list[Prediction]:
        told = self._choice(answer, place).get("logprobs")
        if not isinstance(told, dict) or len(told.get("tokens") or ()) <= 1 < len(text.ids):
            raise OtherProtocolError("no log-probabilities of the prompt")
        lists = [told["tokens"], told["token_logprobs"], told["top_logprobs"]]
        refuse_short(min(len(text.ids), *map(len, lists)), text)
        tokens, own, top = lists
        id_of = self.names.reading(tokens[: len(text.ids)], text.ids)
        for table in top[1 : len(text.ids)]:
            if len(table) < self.k:
                given = len(set(map(id_of, table)))  # a table by text has lost what two tokens share: that is refused
                raise TooFewError(given, self.k)
        found = []
        for t in text.rows:
            label = text.ids[t + 1]
            named = {id_of(name): logp for name, logp in top[t + 1].items()}
            found.append(self._kept({**named, label: own[t + 1]}, label, own[t + 1]))
        return found


def refuse_short(positions: int, text: Text) -> None:
    """Raise AnswerError unless the answer is about as many positions as were sent."""
    if positions != len(text.ids):
        raise AnswerError(f"tells of {positions} positions of a text of {len(text.ids)} tokens")


PROTOCOLS: dict[str, type[ServerProtocol]] = {kind.name: kind for kind in (VLLM, SGLang, LlamaCpp, Echo)}
