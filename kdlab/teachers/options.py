"""Which teacher: the options of the group `teacher`. Importable without torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from kdlab.models import dtype as dtypes

SOURCES = ("live", "cached", "openai", "none")
PROTOCOLS = ("auto", "vllm", "sglang", "llamacpp", "echo")


class Reach(Protocol):
    """How a server is reached and how patient we are with it, of whatever it is asked."""

    url: str
    concurrency: int
    attempts: int
    pause: float
    timeout: float
    key_variable: str


def check_reach(option: str, server: Reach, *, path: str) -> None:
    """Raise ValueError, naming the option below `option`, for what no server can be reached by. `path` is what comes
    after its url."""
    _check_url(option, server.url, path)
    for name in ("concurrency", "attempts"):
        if getattr(server, name) < 1:
            raise ValueError(f"{option}.{name}={getattr(server, name)}: must be at least 1")
    for name in ("pause", "timeout"):
        if not 0 < getattr(server, name) < float("inf"):
            raise ValueError(f"{option}.{name}={getattr(server, name)}: must be > 0 seconds and finite")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", server.key_variable):  # perhaps the key itself: never shown
        raise ValueError(
            f"{option}.key_variable: is the name of an environment variable, of letters, digits and _; the "
            "key itself is never written down"
        )


def _check_url(option: str, url: str, path: str) -> None:
    """Raise ValueError for a url that no request can be sent to, or that holds a secret (which is then not shown)."""
    if "@" in url.partition("//")[2].partition("/")[0]:
        raise ValueError(f"{option}.url: holds a name or password; keys come from {option}.key_variable")
    name = f"{option}.url={url}"
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{name}: must begin with http:// or https://")
    if "?" in url or "#" in url:
        raise ValueError(f"{name}: must end before {path}, without ? or #")
    try:
        parts = urlsplit(url)
        fits = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name}: names no host and port, as http://localhost:8000/v1 does")


@dataclass(kw_only=True)
class ServerConfig:
    """An OpenAI-compatible server that returns the log-probabilities of a prompt (vLLM, SGLang, llama.cpp's).

    `url` ends before `/completions` (`http://localhost:8000/v1`); `model` is what the server calls the model (None:
    the only one that it lists). `k` log-probabilities are asked for each token, in the words of `protocol` (auto: what
    the server says it is, else what it answers to; see `teachers.protocols`).

    Requests of up to `batch_size` texts go out `concurrency` at a time. Each is tried `attempts` times, `pause` seconds
    after the first failure and twice as long after each further one, and given up after `timeout` seconds without a
    byte. The key, where one is needed, is in the environment variable that `key_variable` names.
    """

    url: str = "http://localhost:8000/v1"
    model: str | None = None
    protocol: str = "auto"
    k: int = 20
    batch_size: int = 8
    concurrency: int = 4
    attempts: int = 6
    pause: float = 0.5
    timeout: float = 120.0
    key_variable: str = "OPENAI_API_KEY"

    def __post_init__(self) -> None:
        check_reach("teacher.server", self, path="/completions")
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"teacher.server.protocol={self.protocol}: must be one of {', '.join(PROTOCOLS)}")
        for name in ("k", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"teacher.server.{name}={getattr(self, name)}: must be at least 1")


@dataclass(kw_only=True)
class TeacherConfig:
    """`source`: "live" (a model in this process), "cached" (signals that `kdlab cache` wrote), "openai" (a server, see
    `ServerConfig`) or "none" (labels alone teach).

    `path` is a hub id, a folder, a GGUF file or `tiny:llama`; of a cached teacher the folder of the cache; of a remote
    one where its tokenizer is. `model` is the path of the model that a cache must be of (None: any), `heldout`
    another cache of the same teacher, which judges the held-out data: where it keeps whole distributions (codec=hidden)
    the metrics are exact, whatever the student learns from. `dtype` auto is bfloat16 where the hardware multiplies it
    natively.
    """

    source: str = "live"
    path: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    dtype: str = "auto"
    model: str | None = None
    heldout: str | None = None
    server: ServerConfig | None = None

    def __post_init__(self) -> None:
        if self.source not in ("???", *SOURCES):
            raise ValueError(f"teacher.source={self.source}: must be one of {', '.join(SOURCES)}")
        if self.server is not None and self.source not in ("???", "openai"):
            raise ValueError(f"teacher.server.url={self.server.url}: only teacher=openai asks a server")
        if self.model is not None and self.source not in ("???", "cached"):
            raise ValueError(
                f"teacher.model={self.model}: only teacher=cached checks it; name the model by teacher.path"
            )
        if self.heldout is not None and self.source not in ("???", "cached"):
            raise ValueError(f"teacher.heldout={self.heldout}: only teacher=cached takes another cache to be judged by")
        dtypes.check("teacher.dtype", self.dtype)
