"""The remote teacher: a server that tells the log-probabilities of a prompt, asked over HTTP.

    kdlab cache experiment=quickstart teacher=openai teacher.server.url=http://gpu7:8000/v1 codec=topk

Shape letters: N rows, K entries kept of a row.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.rows import TopK
from kdlab.teachers.options import ServerConfig, TeacherConfig
from kdlab.teachers.server.answers import AnswerError, OtherProtocolError, Prediction, Text
from kdlab.teachers.server.client import LimitError, RefusedError, TeacherClient
from kdlab.teachers.server.names import TokenNames
from kdlab.teachers.server.protocols import PROTOCOLS, ServerProtocol

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OWNERS = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llamacpp"}
"""What servers call themselves in their list of models, and the protocol that each speaks."""
PROBE = "The answer to 12 + 30 is 42."
"""The first text that a server is asked about: words, digits and signs, so that another tokenizer shows."""
SMALLEST = math.log(torch.finfo(torch.float32).tiny)
"""log of the smallest positive normal float32."""


class RemoteTeacher:
    """A teacher that answers every batch with the server's k best entries of each row, at temperature 1.

    `vocabulary` is the number of entries of the server's head: what the server says (llama.cpp), else `vocab_size` of
    the config.json beside the tokenizer, else the tokenizer's. `identity` is a hash of the model's name, the tokenizer
    and k, not of the url: several replicas fill one cache. The texts go out as token ids, each example by itself.
    """

    model = None
    split = None
    disk_bytes = None

    def __init__(self, config: TeacherConfig) -> None:
        """Find the server's model and its tokenizer, and ask a first short text. Raises ValueError where one is missing
        or the server does not tell what is needed."""
        self.server = config.server or ServerConfig()
        self.client = TeacherClient(self.server)
        listed = self.client.models()
        self.model_name = self.client.choose(self.server.model, listed)
        self.tokenizer = _tokenizer(config, self.model_name)
        entry = next((one for one in listed if one["id"] == self.model_name), {})
        self.vocabulary = _vocabulary(config, entry, self.model_name, self.tokenizer)
        if self.server.k > self.vocabulary:
            raise ValueError(f"teacher.server.k={self.server.k}: the vocabulary has {self.vocabulary} entries")
        self.description = f"openai {self.model_name} at {urlsplit(self.server.url).netloc}"
        self.identity = _identity(self.model_name, self.tokenizer, self.server.k)
        self._protocol = self._find_protocol(entry)

    @property
    def protocol(self) -> str:
        """What the server speaks."""
        return self._protocol.name

    def signal(self, batch: Batch, positions_N: Tensor) -> TopK:
        """The k best entries at `positions_N`, indices into the flattened `[B * T]` positions of `batch`, in their
        order: what the server says of each next token. float32; `rest_N` as `tail` has it.

        Raises ValueError, in one line, where the server does not give them.
        """
        if not batch.shift:
            raise ValueError("teacher=openai: a server continues texts, and an encoder-decoder batch is none")
        texts, places_N = _texts(batch, positions_N)
        answers = self._ask(texts)
        return self._joined([answers[place] for place in places_N], batch.input_ids_BT.device)

    def _ask(self, texts: Sequence[Text]) -> list[Prediction]:
        """The predictions at the rows of all texts. The texts are spread over all connections, whatever `batch_size`
        allows a request; the first failure ends the others."""
        size = min(self.server.batch_size, max(1, math.ceil(len(texts) / self.server.concurrency)))
        requests, stop = self._protocol.split(texts, size), threading.Event()
        with ThreadPoolExecutor(max_workers=self.server.concurrency, thread_name_prefix="server") as pool:
            asked = [pool.submit(self._told, request, stop) for request in requests]
            try:
                return [found for one in asked for found in one.result()]
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _told(self, texts: Sequence[Text], stop: threading.Event) -> list[Prediction]:
        """The answer to one request, with its refusal as a ValueError."""
        try:
            return self._request(self._protocol, texts, stop)
        except AnswerError as error:
            raise self._refusal(error) from error

    def _request(
        self, protocol: ServerProtocol, texts: Sequence[Text], stop: threading.Event | None = None
    ) -> list[Prediction]:
        return self.client.ask(protocol.path, protocol.body(texts), lambda answer: protocol.read(answer, texts), stop)

    def _refusal(self, error: AnswerError) -> ValueError:
        line = str(error)
        return ValueError(line if line.startswith("teacher.") else f"{self.client.name}: {line}")

    def _find_protocol(self, entry: dict[str, Any]) -> ServerProtocol:
        """The protocol that the first text is answered in: the one asked for, the one that the server's list of models
        tells of, else one that it answers in."""
        owner = OWNERS.get(str(entry.get("owned_by")).lower())
        asked = self.server.protocol if self.server.protocol != "auto" else owner
        names = TokenNames(self.tokenizer, self.vocabulary)
        ids = [int(i) for i in self.tokenizer.encode(PROBE, add_special_tokens=False)]
        assert len(ids) > 1, "two tokens at least: the first has no prediction"
        probe, reasons = Text(ids, [len(ids) - 2]), []
        for name in (asked,) if asked else ("vllm", "echo"):
            protocol = PROTOCOLS[name](model=self.model_name, k=self.server.k, names=names)
            try:
                self._request(protocol, [probe])
                return protocol
            except OtherProtocolError as error:
                reasons.append(f"as {name} does: {error}")
            except AnswerError as error:
                raise self._refusal(error) from error
            except RefusedError as error:
                if asked or isinstance(error, LimitError) or error.status not in (400, 404, 422):
                    raise
                reasons.append(f"as {name} does: {error}")
        raise ValueError(
            f"{self.client.name}: it does not tell the log-probabilities of a prompt ({'; '.join(reasons)}); vLLM, "
            "SGLang and llama.cpp's server do (teacher.server.protocol)"
        )

    def _joined(self, found: Sequence[Prediction], device: torch.device) -> TopK:
        k = self.server.k
        logp_NK = torch.tensor([one.logp for one in found], dtype=torch.float64).reshape(-1, k)
        labels = [one.label for one in found if one.label is not None]
        label_N = torch.tensor(labels, dtype=torch.float32) if len(labels) == len(found) else None
        return TopK(
            ids_NK=torch.tensor([one.ids for one in found], dtype=torch.long).reshape(-1, k).to(device),
            logp_NK=logp_NK.float().to(device),
            rest_N=tail(logp_NK, self.vocabulary).float().to(device),
            vocabulary=self.vocabulary,
            temperature=1.0,
            logp_label_N=None if label_N is None else label_N.to(device),
        )


def tail(logp_NK: Tensor, vocabulary: int) -> Tensor:
    """log(1 - Σ exp logp), the mass of the entries that are not among the K, computed as log(-expm1(log Σ exp logp)).

    The server's log-probabilities are rounded, so a tail below about 1e-7 is not resolved; where Σ reaches 1 the tail
    is the smallest positive normal float32 (1e-38), for it is there and small. -inf where all entries are among the K.
    """
    if logp_NK.shape[1] == vocabulary:
        return torch.full((logp_NK.shape[0],), -math.inf, dtype=logp_NK.dtype)
    kept_N = torch.logsumexp(logp_NK, 1)
    rest_N = torch.where(kept_N < 0, torch.log(-torch.expm1(kept_N.clamp(max=-1e-300))), SMALLEST)
    return rest_N.clamp(min=SMALLEST)


def _texts(batch: Batch, positions_N: Tensor) -> tuple[list[Text], list[int]]:
    """The examples that have one of the positions, and for each position its place among the rows of all of them."""
    width, ids_BT = batch.input_ids_BT.shape[1], batch.input_ids_BT.tolist()
    examples = _examples(batch)
    where = {
        row * width + column: (e, t) for e, (row, columns) in enumerate(examples) for t, column in enumerate(columns)
    }
    spots_N = [where[position] for position in positions_N.tolist()]
    places = {spot: place for place, spot in enumerate(sorted(set(spots_N)))}
    rows: dict[int, list[int]] = {}
    for e, t in places:
        assert t + 1 < len(examples[e][1]), "the last token of a text has no next one"
        rows.setdefault(e, []).append(t)
    texts = []
    for e, wanted in rows.items():
        row, columns = examples[e]
        texts.append(Text([ids_BT[row][column] for column in columns], wanted))
    return texts, [places[spot] for spot in spots_N]


def _examples(batch: Batch) -> list[tuple[int, list[int]]]:
    """Row and columns of each example of a batch, without padding: what the mask shows, or a packed batch's stretches
    between restarts."""
    B, T = batch.input_ids_BT.shape
    if batch.attention_mask_BT is not None:
        shown_BT = batch.attention_mask_BT.bool().tolist()
        return [(row, [t for t in range(T) if shown_BT[row][t]]) for row in range(B)]
    if batch.position_ids_BT is None:
        return [(row, list(range(T))) for row in range(B)]
    examples = []
    for row, positions_T in enumerate(batch.position_ids_BT.tolist()):
        begins = [t for t in range(T) if t == 0 or positions_T[t] == 0]
        examples += [(row, list(range(begin, end))) for begin, end in pairwise([*begins, T])]
    return examples


def _tokenizer(config: TeacherConfig, model_name: str) -> PreTrainedTokenizerBase:
    """The tokenizer at teacher.path, or at the server's name of the model taken as a hub id."""
    from kdlab.models.loading import load_tokenizer

    try:
        return load_tokenizer(
            config.path or model_name, config.revision, config.trust_remote_code, option="teacher.path"
        )
    except (ValueError, OSError) as error:
        if config.path:
            raise
        raise ValueError(
            f"teacher.path is not set, and the server's name of its model is no tokenizer ({error}); give "
            "teacher.path=<hub id or folder of its tokenizer>"
        ) from error


def _vocabulary(
    config: TeacherConfig, entry: dict[str, Any], model_name: str, tokenizer: PreTrainedTokenizerBase
) -> int:
    """The number of entries of the server's head; heads are often padded beyond the tokenizer."""
    told = (entry.get("meta") or {}).get("n_vocab")
    if isinstance(told, int) and told > 0:
        return told
    from transformers import AutoConfig

    from kdlab.models.tiny import tiny_config

    path = config.path or model_name
    if path.startswith("tiny:"):
        return int(tiny_config(path.removeprefix("tiny:")).vocab_size)
    try:
        found = AutoConfig.from_pretrained(
            Path(path).expanduser() if Path(path).expanduser().is_dir() else tokenizer.name_or_path,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
        )
    except (OSError, ValueError):  # a folder with a tokenizer only
        return len(tokenizer)
    return max(int(getattr(found.get_text_config(), "vocab_size", 0)), len(tokenizer))


def _identity(model_name: str, tokenizer: PreTrainedTokenizerBase, k: int) -> str:
    vocabulary = sorted(tokenizer.get_vocab().items())
    parts = [model_name, hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest(), k]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
