"""The way to a server: pooled connections, patience with what passes, and one clear line for what does not.

Dropped connections, timeouts, 408, 429, 5xx and answers that are cut or cannot be true are tried again, after pauses
that double (with jitter, so that many clients do not come back at once) or as long as the server's Retry-After says.
What another attempt would not change (400, 401, 403, 404, ...) is said at once. The key goes into the header of each
request and nowhere else.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import time
from typing import TYPE_CHECKING, Any, TypeVar

from kdlab.models.progress import say
from kdlab.teachers.options import Reach, ServerConfig
from kdlab.teachers.server.answers import AnswerError

if TYPE_CHECKING:
    import httpx
    from tenacity import RetryCallState

Result = TypeVar("Result")

PASSING = (408, 425, 429)
"""Statuses below 500 that pass."""
LONGEST = 60.0
"""Seconds that a pause of ours lasts at most."""
LONGEST_ASKED = 600.0
"""Seconds that we wait at most when a server says how long."""


class RefusedError(ValueError):
    """The server refuses the request, and would again; in one line. `status` is its HTTP status."""

    def __init__(self, line: str, status: int) -> None:
        super().__init__(line)
        self.status = status


class LimitError(RefusedError):
    """It refuses because fewer log-probabilities a token are allowed."""


class _PassingError(Exception):
    """What may be over at the next attempt; `pause`: how many seconds the server asks to wait."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class Client:
    """Asks one server; threads may share it. `requests` counts what was sent, `retries` what had to be sent again.

    `option` is where the server's options are, as the user types them; `path` the main one that is asked for.
    """

    def __init__(self, config: Reach, *, option: str, path: str) -> None:
        import httpx

        self.config, self.option, self.path = config, option, path
        self.name = f"{option}.url={config.url}"
        self.requests = self.retries = 0
        self._lock = threading.Lock()
        self._key = _key(option, config.key_variable)
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx.Timeout(config.timeout, connect=min(config.timeout, 10.0), pool=None),
            limits=httpx.Limits(max_connections=config.concurrency, max_keepalive_connections=config.concurrency),
        )

    def models(self) -> list[dict[str, Any]]:
        """What the server lists as its models; empty where it lists none (404, 405)."""
        try:
            return self.ask("/models", None, _listed)
        except RefusedError as refusal:
            if refusal.status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
                return []
            raise

    def choose(self, asked: str | None, listed: Sequence[dict[str, Any]]) -> str:
        """The name of the model to ask for: `asked`, or the only one of those `listed`. Raises ValueError where it is
        not among them, or None and there are none or several."""
        names, option = [str(one["id"]) for one in listed], f"{self.option}.model"
        if asked is None and len(names) == 1:
            return names[0]
        if asked is None:
            there = f"the server lists {len(names)}: {', '.join(names[:5])}" if names else "the server lists none"
            raise ValueError(f"{option} is not set, and {there}; name one")
        if names and asked not in names:
            near = get_close_matches(asked, names, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names[:5])}"
            raise ValueError(f"{option}={asked}: the server at {self.config.url} has no such model; {hint}")
        return asked

    def ask(
        self,
        path: str,
        body: dict[str, Any] | None,
        read: Callable[[Any], Result],
        stop: threading.Event | None = None,
    ) -> Result:
        """What `read` makes of the answer to `body` (None: a GET), tried up to `attempts` times unless `stop` is set.

        `path` comes after the url, or beside its `/v1` where it begins with `//`. Raises ValueError, in one line, where
        no attempt gave an answer that `read` takes, and AnswerError where another attempt would be no better.
        """
        from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, stop_when_event_set
        from tenacity.nap import sleep_using_event

        stop, attempts = stop or threading.Event(), self.config.attempts
        tries = Retrying(
            retry=retry_if_exception_type(_PassingError),
            stop=stop_after_attempt(attempts) | stop_when_event_set(stop),
            wait=self._pause,
            sleep=sleep_using_event(stop),
            before_sleep=self._count,
        )
        try:
            answer: Result = tries(self._once, path, body, read)
            return answer
        except RetryError as error:
            last = error.last_attempt.exception()
            raise ValueError(
                f"{self.name}: no good answer in {attempts} attempts, the last: {last}; what was done so far is kept: "
                "see to the server and run the same command again"
            ) from last

    def _once(self, path: str, body: dict[str, Any] | None, read: Callable[[Any], Result]) -> Result:
        answer = self._answer(path, body)
        try:
            return read(answer)
        except AnswerError as error:
            if error.again:
                raise _PassingError(self._shown(str(error))) from error
            raise

    def _answer(self, path: str, body: dict[str, Any] | None) -> Any:
        import httpx

        base = self.config.url.rstrip("/")
        url = base.removesuffix("/v1") + path[1:] if path.startswith("//") else base + path
        with self._lock:
            self.requests += 1
        try:
            got = self._http.get(url) if body is None else self._http.post(url, json=body)
        except httpx.TimeoutException as error:
            raise _PassingError(f"nothing for {self.config.timeout:g} seconds ({type(error).__name__})") from error
        except httpx.TransportError as error:
            raise _PassingError(self._shown(f"{type(error).__name__}: {error}")) from error
        if (got.status_code >= 500 and got.status_code != HTTPStatus.NOT_IMPLEMENTED) or got.status_code in PASSING:
            raise _PassingError(self._said(got), _asked_pause(got.headers.get("Retry-After")))
        if not got.is_success:
            raise self._refusal(got)
        try:
            return got.json()
        except ValueError as error:
            raise _PassingError(f"cut or damaged JSON ({len(got.content)} bytes)") from error

    def _pause(self, state: RetryCallState) -> float:
        from tenacity import wait_exponential, wait_random

        first = self.config.pause
        ours = wait_exponential(multiplier=first, max=LONGEST)(state) + wait_random(0, first)(state)
        reason = state.outcome.exception() if state.outcome else None
        return max(ours, reason.pause if isinstance(reason, _PassingError) else 0.0)

    def _count(self, state: RetryCallState) -> None:
        reason = state.outcome.exception() if state.outcome else None
        with self._lock:
            self.retries += 1
        number, attempts = state.attempt_number, self.config.attempts
        say(f"{self.config.url}: {reason}; trying again ({number} of {attempts} attempts failed)")

    def _refusal(self, got: httpx.Response) -> RefusedError:
        """What the server refuses and what to do, in one line."""
        said, status = self._said(got), got.status_code
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            state = "holds a key that is refused" if self._key else "is not set"
            said += f"; the key is read from the environment variable {self.config.key_variable}, which {state}"
        elif status in (HTTPStatus.NOT_FOUND, HTTPStatus.NOT_IMPLEMENTED):
            said += f"; the url ends before {self.path}, mostly in /v1: is it that of a text server?"
        elif got.is_redirect:
            said += f"; it points to {got.headers.get('Location')}: give that url"
        return RefusedError(f"{self.name}: {said}", status)

    def _said(self, got: httpx.Response) -> str:
        """Status and message of a failed answer, in one line without the key."""
        status = f"{got.status_code} {got.reason_phrase}".strip()
        message = _message(got)
        return self._shown(f"{status} ({message})" if message else status)

    def _shown(self, text: str) -> str:
        return self.masked(" ".join(text.split()))[:300]

    def masked(self, text: str) -> str:
        """`text` without the key, should a server say it."""
        return text.replace(self._key, "***") if self._key else text


class TeacherClient(Client):
    """Asks for log-probabilities."""

    def __init__(self, config: ServerConfig) -> None:
        super().__init__(config, option="teacher.server", path="/completions")
        self.server = config

    def _refusal(self, got: httpx.Response) -> RefusedError:
        said, status = self._said(got), got.status_code
        if "logprobs" in said and ("max" in said or "less than" in said):
            remedy = "ask for fewer, or raise the server's limit (vLLM: --max-logprobs)"
            return LimitError(f"teacher.server.k={self.server.k}: {said}; {remedy}", status)
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            said += f"; lower teacher.server.batch_size={self.server.batch_size}"
            return RefusedError(f"{self.name}: {said}", status)
        return super()._refusal(got)


def _key(option: str, variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError(f"{option}.key_variable={variable}: what it holds cannot be a key; set it anew")
    return key


def _listed(answer: Any) -> list[dict[str, Any]]:
    models = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(models, list) or not all(isinstance(model, dict) and "id" in model for model in models):
        raise AnswerError("no list of models")
    return models


def _message(got: httpx.Response) -> str:
    """What the body of a failed answer says; nothing where it is a page for a browser."""
    if "html" in got.headers.get("Content-Type", ""):
        return ""
    try:
        told = got.json()
    except ValueError:
        return got.text
    for name in ("error", "message", "detail"):
        if isinstance(told, dict) and told.get(name):
            told = told[name]
    return str(told)


def _asked_pause(header: str | None) -> float:
    """Seconds that a Retry-After header asks for, given as seconds or as a date; 0 where there is none."""
    if not header:
        return 0.0
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time()
        except ValueError:
            return 0.0
    return min(max(seconds, 0.0), LONGEST_ASKED)
