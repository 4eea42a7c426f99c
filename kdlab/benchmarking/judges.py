"""Who judges the answers of MT-Bench: a server that speaks OpenAI's /chat/completions, or a model in this process.

A judge that said no rating is asked again at another temperature: at 0 it would say the same again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from kdlab.benchmarking.jobs import Job
from kdlab.benchmarking.lines import key_of
from kdlab.benchmarking.recipe import JUDGE, JudgeConfig
from kdlab.teachers.server.answers import AnswerError
from kdlab.teachers.server.client import Client, RefusedError

if TYPE_CHECKING:
    import torch

AGAIN = 0.7
"""The temperature of a second and further try."""
LIMIT = "limit"
"""What ended a judgement that reached `max_tokens`."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a judge said, in how many tokens as it counts them (None: it does not tell). `stopped` is what ended it:
    "limit" for `max_tokens`."""

    text: str
    tokens_in: int | None
    tokens_out: int | None
    stopped: str | None


Keep = Callable[[Job, Said], None]


class Judge(Protocol):
    """`identity` names who judges, and how: other judgements are kept apart from theirs. `name` is for people."""

    identity: str
    name: str

    def judge(self, jobs: Sequence[tuple[Job, int]], keep: Keep) -> None:
        """Judge all jobs, each with how often it has been tried, and `keep` each as soon as it is there."""
        ...


def open_judge(config: JudgeConfig, *, device: torch.device) -> Judge:
    """The judge that the options name. Raises ValueError or FileNotFoundError where it is not there."""
    return ServerJudge(config) if config.kind == "server" else LocalJudge(config, device=device)


class ServerJudge:
    """Asks a server, `concurrency` requests at a time."""

    def __init__(self, config: JudgeConfig) -> None:
        self.config = config
        self.client = Client(config, option=JUDGE, path="/chat/completions")
        self.model = config.model or self.client.choose(None, self.client.models())
        self.name = self.model
        # not the url: one model may be asked for in several places
        self.identity = key_of("server", self.model, config.max_tokens, config.temperature)
        self._limit = "max_tokens"

    def judge(self, jobs: Sequence[tuple[Job, int]], keep: Keep) -> None:
        """The first failure ends the others; what has been asked for by then is waited for and kept: it is paid."""
        stop, failures = threading.Event(), list[Exception]()

        def one(job: Job, tried: int) -> None:
            if stop.is_set():
                return
            try:
                keep(job, self._ask(job, tried, stop))
            except Exception as error:
                failures.append(error)
                stop.set()  # here, and not where the caller sees it: others would have been asked by then

        with ThreadPoolExecutor(max_workers=self.config.concurrency, thread_name_prefix="judge") as pool:
            try:
                for each in [pool.submit(one, job, tried) for job, tried in jobs]:
                    each.result()
            except BaseException:  # Ctrl-C
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        if failures:
            raise failures[0]

    def _ask(self, job: Job, tried: int, stop: threading.Event) -> Said:
        limit = self._limit
        try:
            return self.client.ask("/chat/completions", self._body(job, tried, limit), self._read, stop)
        except RefusedError as refusal:
            if limit == "max_tokens" and "max_completion_tokens" in str(refusal):  # newer models of OpenAI's
                self._limit = "max_completion_tokens"
                return self._ask(job, tried, stop)
            remedy = _remedy(str(refusal), refusal.status, self.model)
            raise RefusedError(f"{refusal}{remedy}", refusal.status) from refusal
        except AnswerError as error:
            raise ValueError(f"{self.client.name}: {error}") from error

    def _body(self, job: Job, tried: int, limit: str) -> dict[str, Any]:
        messages = [{"role": "system", "content": job.system}, {"role": "user", "content": job.user}]
        body: dict[str, Any] = {"model": self.model, "messages": messages, limit: self.config.max_tokens}
        if self.config.temperature is not None:
            body["temperature"] = temperature(self.config, tried)
        return body

    def _read(self, answer: Any) -> Said:
        try:
            choice = answer["choices"][0]
            text, stopped = choice["message"].get("content") or "", choice.get("finish_reason")
            usage = answer.get("usage") or {}
            told = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise AnswerError(f"not an answer as chat completions are ({type(error).__name__}: {error})") from error
        if not isinstance(text, str):
            raise AnswerError("an answer that is no text")
        counts = [count if isinstance(count, int) and count >= 0 else None for count in told]
        return Said(
            text=self.client.masked(text.encode(errors="replace").decode()),  # half a character is no text
            tokens_in=counts[0],
            tokens_out=counts[1],
            stopped=LIMIT if stopped == "length" else stopped,
        )


class LocalJudge:
    """A causal model in this process, `concurrency` judgements a batch."""

    def __init__(self, config: JudgeConfig, *, device: torch.device) -> None:
        from kdlab.benchmarking.writing import Answerer
        from kdlab.models.loading import load_language_model, load_tokenizer
        from kdlab.models.source import resolve
        from kdlab.models.weights_hash import source_hash

        assert config.path is not None
        self.config, self.name, option = config, config.path, f"{JUDGE}.path"
        model = load_language_model(config.path, device=device, option=option)
        if model.config.is_encoder_decoder:
            raise ValueError(f"{option}={config.path}: is an encoder-decoder model; a judge is a causal one")
        tokenizer = load_tokenizer(config.path, option=option)
        identity = source_hash(resolve(config.path, option=option))
        self._model = Answerer(model, tokenizer, identity=identity, template=None, device=device)
        self.identity = key_of("local", self._model.identity, config.max_tokens, config.temperature)
        context = getattr(model.config, "max_position_embeddings", None)
        self._room = None if not context else context - config.max_tokens

    def judge(self, jobs: Sequence[tuple[Job, int]], keep: Keep) -> None:
        from kdlab.training.generate import write_batches

        prompts = [self._prompt(job) for job, _ in jobs]
        order = sorted(range(len(jobs)), key=lambda i: -len(prompts[i]))
        size = self.config.concurrency
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        written = write_batches(
            self._model.model,
            self._model.tokenizer,
            prompts,
            batches,
            max_new_tokens=self.config.max_tokens,
            device=self._model.device,
            processors=lambda number: self._drawn([jobs[i] for i in batches[number]]),
        )
        for batch, texts in zip(batches, written, strict=True):
            for i, text in zip(batch, texts, strict=True):
                said = Said(text=text.text, tokens_in=text.prompt_tokens, tokens_out=text.tokens, stopped=text.stopped)
                keep(jobs[i][0], said)

    def _prompt(self, job: Job) -> list[int]:
        """Raises ValueError for one that is longer than the model reads: a part of it would be judged."""
        user = {"role": "user", "content": job.user}
        try:
            ids = self._model.prompt([{"role": "system", "content": job.system}, user])
        except ValueError:  # some templates know no system message
            ids = self._model.prompt([user | {"content": f"{job.system}\n\n{job.user}"}])
        if self._room is not None and len(ids) > self._room:
            raise ValueError(
                f"{JUDGE}.path={self.name}: question {job.question.id} takes {len(ids)} tokens, and it has room for "
                f"{max(0, self._room)} besides the {self.config.max_tokens} that it may write; take a judge with a "
                f"longer context, or lower {JUDGE}.max_tokens or benchmark.mt_bench.max_new_tokens"
            )
        return ids

    def _drawn(self, jobs: Sequence[tuple[Job, int]]) -> list[Any]:
        """What draws the judgements of a batch (all tried as often); nothing where the most likely ones are taken."""
        from kdlab.answering.drawing import Drawn

        tried = jobs[0][1]
        assert all(other == tried for _, other in jobs)
        at = temperature(self.config, tried)
        if at == 0:
            return []
        keys = [(int(job.key, 16) % 2**63, tried) for job, _ in jobs]
        return [Drawn(keys, length=self.config.max_tokens, temperature=at, top_p=1.0)]


def temperature(config: JudgeConfig, tried: int) -> float:
    """At which temperature a judgement is drawn that has been `tried` so often."""
    own = config.temperature or 0.0
    return own if tried == 0 else max(own, AGAIN)


def _remedy(said: str, status: int, model: str) -> str:
    if status == HTTPStatus.NOT_FOUND:
        return f" And is {JUDGE}.model={model} what it calls its model?"
    if "temperature" in said:
        return f"; write {JUDGE}.temperature=null where it takes its own only"
    if status in (400, 413) and any(word in said for word in ("context", "length", "too long", "too large", "tokens")):
        return f"; lower {JUDGE}.max_tokens or benchmark.mt_bench.max_new_tokens, or take a judge with a longer context"
    return ""
