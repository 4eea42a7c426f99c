"""A completion server with a tiny model, run as a process of its own, that speaks as vLLM, SGLang, llama.cpp's server
or OpenAI's completions do, and fails as it is told.

    python completion_server.py        prints its port, and serves until it is ended

How it behaves is in the first part of the path, so that one process serves every test:

    http://127.0.0.1:<port>/speaks=vllm;faults=500,drop;id=7/v1

`faults` befall the first requests, one each; `always` befalls all. `GET /<same>/stats` tells what was seen.
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "tiny:llama"
SERVED = "tiny-llama"


@contextmanager
def served() -> Iterator[str]:
    """The root of a server that runs while the block does."""
    process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


class State:
    """What one way of behaving has seen."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.posts = self.now = self.most = 0
        self.keys: set[str | None] = set()
        self.texts: list[int] = []


class Handler(BaseHTTPRequestHandler):
    """One request. The class holds the model and what was seen."""

    protocol_version = "HTTP/1.1"
    states: dict[str, State] = {}  # noqa: RUF012
    all_lock = threading.Lock()
    model: Any = None
    tokenizer: Any = None

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def behaviour(self) -> tuple[dict[str, str], State, str]:
        _, first, rest = self.path.split("/", 2)
        with self.all_lock:
            state = self.states.setdefault(first, State())
        return dict(pair.split("=", 1) for pair in first.split(";") if "=" in pair), state, rest

    def do_GET(self) -> None:
        told, state, rest = self.behaviour()
        if rest == "stats":
            self.say(
                {"posts": state.posts, "most": state.most, "keys": sorted(map(str, state.keys)), "texts": state.texts}
            )
        elif rest == "v1/models" and told.get("models") != "hidden":
            state.keys.add(self.headers.get("Authorization"))
            names = told.get("models", SERVED).split(",")
            meta = {"meta": {"n_vocab": 259}} if told.get("speaks") == "llamacpp" else {}
            self.say({"data": [{"id": name, "owned_by": told.get("owner", "someone")} | meta for name in names]})
        else:
            self.say({"error": {"message": "no such page"}}, 404)

    def do_POST(self) -> None:
        told, state, rest = self.behaviour()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with state.lock:
            number = state.posts
            state.posts += 1
            state.now += 1
            state.most = max(state.most, state.now)
            state.keys.add(self.headers.get("Authorization"))
        try:
            time.sleep(float(told.get("delay", 0)))
            faults = told.get("faults", "").split(",")
            fault = told.get("always") or (faults[number] if number < len(faults) else "")
            self.reply(told, state, rest, body, fault)
        finally:
            with state.lock:
                state.now -= 1

    def reply(self, told: dict[str, str], state: State, rest: str, body: dict[str, Any], fault: str) -> None:
        key = self.headers.get("Authorization")
        if "key" in told and digest(key) != told["key"]:
            return self.say({"error": {"message": f"bad key {key}"}}, 401)
        if fault == "refuse":
            self.close_connection = True
            return None
        if fault.isdigit():
            after = {"Retry-After": told["after"]} if "after" in told else {}
            return self.say({"error": {"message": "out of\nmemory"}}, int(fault), after)
        if fault == "slow":
            time.sleep(float(told["slow"]))
        speaks = told.get("speaks", "vllm")
        if (rest == "generate") != (speaks == "sglang"):
            return self.say({"error": "no such page"}, 404)
        limit = int(told.get("limit", 1000))
        if body.get("prompt_logprobs", 0) > limit:
            message = (
                f"Requested prompt logprobs of {body['prompt_logprobs']}, which is greater than max allowed: {limit}"
            )
            return self.say({"error": {"message": message}}, 400)
        answer = ANSWERS[speaks](self, told, body)
        prompts = body["input_ids"] if rest == "generate" else body["prompt"]
        state.texts.append(len(prompts) if isinstance(prompts[0], list) else 1)
        if fault in SPOILT:
            SPOILT[fault](answer)
        text = json.dumps(answer).encode()
        if fault == "html":
            text = b"<html>gateway</html>"
        if fault == "cut":
            text = text[: len(text) // 2]
        return self.send(text, 200, {}, part=0.5 if fault == "drop" else 1)

    def say(self, what: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send(json.dumps(what).encode(), status, headers or {})

    def send(self, text: bytes, status: int, headers: dict[str, str], part: float = 1) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text[: math.ceil(len(text) * part)])
        if part < 1:
            self.close_connection = True

    def logp(self, told: dict[str, str], ids: list[int]) -> Any:
        """Log-probabilities [T, V] after each token; with `ascii`, other bytes are all but impossible."""
        import torch

        with torch.no_grad():
            logits_TV = self.model(torch.tensor([ids])).logits[0]
            if "ascii" in told:
                logits_TV = logits_TV + ascii_bias(self.tokenizer)
            return logits_TV.log_softmax(-1)


def digest(key: str | None) -> str:
    """What the path tells of the key that is expected: it is no place for the key."""
    return hashlib.sha256(str(key).encode()).hexdigest()[:12]


def ascii_bias(tokenizer: Any) -> Any:
    """-80 for every token that is no printable ASCII character."""
    import torch

    texts = tokenizer.batch_decode([[i] for i in range(259)])
    return torch.tensor([0.0 if len(t) == 1 and t.isascii() and t.isprintable() else -80.0 for t in texts])


def best(row_V: Any, k: int) -> list[tuple[int, float]]:
    top = row_V.topk(k)
    return list(zip(top.indices.tolist(), top.values.tolist(), strict=True))


def as_vllm(server: Handler, told: dict[str, str], body: dict[str, Any]) -> Any:
    k, choices = min(body.get("prompt_logprobs", 0), int(told.get("cap", 1000))), []
    for index, ids in enumerate(body["prompt"]):
        entries: list[Any] = [None]
        for row_V, own in zip(server.logp(told, ids), ids[1:], strict=False):
            rank = int((row_V >= row_V[own]).sum())
            ranked = {own: (float(row_V[own]), rank)} | {i: (p, n) for n, (i, p) in enumerate(best(row_V, k), 1)}
            entries.append(
                {
                    str(i): {"logprob": p, "rank": n, "decoded_token": server.tokenizer.decode([i])}
                    for i, (p, n) in ranked.items()
                }
            )
        choices.append({"index": index, "text": "", "prompt_logprobs": entries, "logprobs": None})
    return {"model": body["model"], "choices": choices[::-1], "usage": {}}  # the order is that of `index`


def as_sglang(server: Handler, told: dict[str, str], body: dict[str, Any]) -> Any:
    answers = []
    for ids in body["input_ids"]:
        own, top = [[None, ids[0], None]], [None]
        for row_V, i in zip(server.logp(told, ids), ids[1:], strict=False):
            own.append([float(row_V[i]), i, None])
            top.append([[p, j, None] for j, p in best(row_V, body["top_logprobs_num"])])
        answers.append({"text": "", "meta_info": {"input_token_logprobs": own, "input_top_logprobs": top}})
    return answers


def as_llamacpp(server: Handler, told: dict[str, str], body: dict[str, Any]) -> Any:
    row_V = server.logp(told, body["prompt"])[-1]
    top = [{"id": i, "token": "?", "bytes": [], "logprob": p} for i, p in best(row_V, body["n_probs"])]
    choice = {"index": 0, "text": "?", "logprobs": {"content": [top[0] | {"top_logprobs": top}]}}
    return {"model": body["model"], "choices": [choice], "usage": {"prompt_tokens": len(body["prompt"])}}


def as_echo(server: Handler, told: dict[str, str], body: dict[str, Any]) -> Any:
    by, choices = told.get("names", "id"), []
    name = {
        "id": lambda i: f"token_id:{i}",
        "text": lambda i: server.tokenizer.decode([i]),
        "piece": server.tokenizer.convert_ids_to_tokens,
        "other": lambda i: f"<{i}>",
    }[by]
    if not body.get("echo") or told.get("speaks") == "nothing":
        return {"model": body.get("model"), "choices": [{"index": i, "text": "?"} for i in range(len(body["prompt"]))]}
    for index, ids in enumerate(body["prompt"]):
        rows_TV = server.logp(told, ids)
        own = [None, *(float(row_V[i]) for row_V, i in zip(rows_TV, ids[1:], strict=False)), -0.5]
        top = [None, *({name(i): p for i, p in best(row_V, body["logprobs"])} for row_V in rows_TV)]
        logprobs = {"tokens": [*map(name, ids), name(5)], "token_logprobs": own, "top_logprobs": top}
        choices.append({"index": index, "text": "", "logprobs": logprobs})
    return {"model": body["model"], "choices": choices}


ANSWERS = {"vllm": as_vllm, "sglang": as_sglang, "llamacpp": as_llamacpp, "echo": as_echo, "nothing": as_echo}


def short(answer: Any) -> None:
    answer["choices"][0]["prompt_logprobs"].pop()


def lost(answer: Any) -> None:
    answer["choices"].pop()


def otherwise(value: float) -> Any:
    def change(answer: Any) -> None:
        for entry in answer["choices"][0]["prompt_logprobs"][1:]:
            next(iter(entry.values()))["logprob"] = value

    return change


def wrong_ids(answer: Any) -> None:
    entries = answer["choices"][0]["prompt_logprobs"]
    entries[1:] = [{str((int(i) + 1) % 259): e for i, e in list(entry.items())[1:]} for entry in entries[1:]]


def other_model(answer: Any) -> None:
    answer["model"] = "another"


def other_texts(answer: Any) -> None:
    for entry in answer["choices"][0]["prompt_logprobs"][1:]:
        for told in entry.values():
            told["decoded_token"] = "zz"


def certain(answer: Any) -> None:
    for entry in answer["choices"][0]["prompt_logprobs"][1:]:
        for told in entry.values():
            told["logprob"] = -0.01


SPOILT = {
    "short": short,
    "lost": lost,
    "positive": otherwise(0.25),
    "nan": otherwise(math.nan),
    "ids": wrong_ids,
    "model": other_model,
    "texts": other_texts,
    "certain": certain,
}


def main() -> None:
    import torch

    from kdlab.models.tiny import byte_tokenizer, tiny_model

    torch.set_num_threads(1)
    Handler.model, Handler.tokenizer = tiny_model("llama"), byte_tokenizer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
