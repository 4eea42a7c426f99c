"""A chat server in a thread that judges by a rule, and fails as it is told.

with JudgeServer(faults=[429, "hang"]) as server:
    server.url            # http://127.0.0.1:<port>/v1
    server.bodies         # what was asked, in order
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "judge-1"
Reply = Callable[[dict[str, Any]], str | None]


def rating_of(user: str) -> int:
    """The rating that the server gives to a prompt: any from 1 to 10, always the same."""
    return 1 + int(hashlib.sha256(user.encode()).hexdigest(), 16) % 10


def rates(body: dict[str, Any]) -> str:
    return f"It is fine. Rating: [[{rating_of(body['messages'][1]['content'])}]]"


class JudgeServer:
    """`faults` befall the first requests, one each: a status, "hang" (no answer until the end), "drop" (the connection
    is closed), "cut" (half an answer), "odd" (another form), "" (none). `always` befalls all. `reply` judges."""

    def __init__(
        self,
        *,
        faults: Sequence[int | str] = (),
        always: int | str = "",
        reply: Reply = rates,
        after: str | None = None,
        key: str | None = None,
        models: Sequence[str] = (MODEL,),
        usage: bool = True,
        said: str = "no",
        finish: str = "stop",
    ) -> None:
        self.faults, self.always, self.reply, self.after = list(faults), always, reply, after
        self.key, self.models, self.usage, self.said = key, models, usage, said
        self.finish = finish
        self.bodies: list[dict[str, Any]] = []
        self.now = self.most = 0
        self.lock = threading.Lock()
        self.over = threading.Event()

    def __enter__(self) -> JudgeServer:
        told = self

        class Handler(Judging):
            server_ = told

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._http.shutdown()
        self._http.server_close()


class Judging(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server_: JudgeServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.say({"data": [{"id": name} for name in self.server_.models]})

    def do_POST(self) -> None:
        server = self.server_
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            number = len(server.bodies)
            server.bodies.append(body)
            server.now += 1
            server.most = max(server.most, server.now)
        try:
            fault = server.faults[number] if number < len(server.faults) else server.always
            self.answer(body, fault)
        finally:
            with server.lock:
                server.now -= 1

    def answer(self, body: dict[str, Any], fault: int | str) -> None:
        server, key = self.server_, self.headers.get("Authorization")
        if self.path != "/v1/chat/completions":
            return self.say({"error": {"message": "no such page"}}, 404)
        if server.key is not None and key != f"Bearer {server.key}":
            return self.say({"error": {"message": f"Incorrect API key provided: {key}"}}, 401)
        if isinstance(fault, int):
            headers = {} if server.after is None else {"Retry-After": server.after}
            return self.say({"error": {"message": server.said}}, fault, headers)
        if fault == "hang":
            server.over.wait(20)
        if fault in ("hang", "drop"):
            self.close_connection = True
            return None
        if fault == "odd":
            return self.say({"choices": []})
        text = server.reply(body)
        told: dict[str, Any] = {
            "model": body["model"],
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": server.finish}
            ],
        }
        if server.usage:
            told["usage"] = {"prompt_tokens": 100, "completion_tokens": 10}
        return self.say(told, part=0.5 if fault == "cut" else 1.0)

    def say(self, what: Any, status: int = 200, headers: dict[str, str] | None = None, part: float = 1.0) -> None:
        text = json.dumps(what).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text[: int(len(text) * part)])
        if part < 1:
            self.close_connection = True
