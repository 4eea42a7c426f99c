"""A hub on loopback with as much of the real one's protocol as an upload needs: repositories of one user, LFS by plain
HTTP, commits as lines of JSON. It can break off, answer errors, and knows what it was told."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "Ab3" * 12
USER = "me"


@dataclass
class FakeHub:
    """What the server holds. `breaks` are counted down at each use: a name of a step to how often it fails.

    The steps: "blob" closes the connection in the middle of a file of weights, "commit" answers 500 to a commit.
    """

    url: str = ""
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    commits: dict[str, list[list[str]]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    breaks: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    commits_until_break: int | None = None

    def oid(self, repo: str) -> str:
        return hashlib.sha1(json.dumps(self.commits.get(repo, [])).encode()).hexdigest()

    def breaks_at(self, step: str) -> bool:
        if step == "commit" and self.commits_until_break is not None:
            self.commits_until_break -= 1
            return self.commits_until_break < 0
        left = self.breaks.get(step, 0)
        self.breaks[step] = max(0, left - 1)
        return left > 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 2**16  # head and body in one packet
    disable_nagle_algorithm = True
    hub: FakeHub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, content: Any = None, headers: dict[str, str] | None = None) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self) -> None:
        self.route()

    def do_HEAD(self) -> None:
        self.route()

    def do_POST(self) -> None:
        self.route()

    def do_PUT(self) -> None:
        hub, oid = self.hub, self.path.rpartition("/")[2]
        hub.requests.append(f"PUT {self.path}")
        if hub.breaks_at("blob"):
            self.rfile.read(16)
            self.close_connection = True
            self.connection.close()
            return
        length = self.headers.get("Content-Length")
        content = self.body() if length else self.chunks()
        assert hashlib.sha256(content).hexdigest() == oid
        hub.blobs[oid] = content
        self.answer(200)

    def chunks(self) -> bytes:
        content = b""
        while size := int(self.rfile.readline().strip(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def route(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        content = self.body()
        hub.requests.append(f"{self.command} {path}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            message = "Invalid credentials in Authorization header"
            self.answer(401, {"error": message}, {"X-Error-Message": message})
        elif path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self.create(json.loads(content))
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/([a-z]+)(?:/main)?)?", path):
            self.model(match[1], match[2] or "info", content)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self.batch(json.loads(content))
        else:
            self.answer(404, {"error": "no such page"})

    def create(self, asked: dict[str, Any]) -> None:
        hub, owner = self.hub, asked.get("organization") or USER
        repo = f"{owner}/{asked['name']}"
        if owner != USER:
            self.answer(403, {"error": f"You don't have the rights to create a model under the namespace {owner}"})
        elif repo in hub.repos:
            self.answer(409, {"error": "You already created this model repo", "url": f"{hub.url}/{repo}"})
        else:
            hub.repos[repo] = {".gitattributes": b"*.safetensors filter=lfs\n"}
            hub.private[repo] = asked.get("visibility") == "private" or bool(asked.get("private"))
            hub.commits[repo] = []
            self.answer(200, {"url": f"{hub.url}/{repo}", "name": repo})

    def model(self, repo: str, step: str, content: bytes) -> None:
        hub = self.hub
        if repo not in hub.repos:
            self.answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif step == "info":
            told = {"sha": hub.oid(repo), "private": hub.private[repo], "siblings": [], "tags": []}
            self.answer(200, {"id": repo, "modelId": repo, **told})
        elif step == "tree":
            self.answer(200, [entry(path, file) for path, file in hub.repos[repo].items()])
        elif step == "preupload":
            asked = json.loads(content)["files"]
            files = [{"path": f["path"], "uploadMode": mode(f["path"]), "shouldIgnore": False} for f in asked]
            self.answer(200, {"files": files})
        elif step == "commit":
            self.commit(repo, content)

    def batch(self, asked: dict[str, Any]) -> None:
        hub = self.hub
        objects = []
        for one in asked["objects"]:
            upload = {"upload": {"href": f"{hub.url}/blob/{one['oid']}"}}
            objects.append(one | ({} if one["oid"] in hub.blobs else {"actions": upload}))
        self.answer(200, {"transfer": "basic", "objects": objects})

    def commit(self, repo: str, content: bytes) -> None:
        hub = self.hub
        if hub.breaks_at("commit"):
            self.answer(500, {"error": "out of order"})
            return
        lines = [json.loads(line) for line in content.splitlines()]
        sent = []
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                hub.repos[repo][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                hub.repos[repo][value["path"]] = hub.blobs[value["oid"]]
            else:
                continue
            sent.append(value["path"])
        hub.commits[repo].append(sent)
        oid = hub.oid(repo)
        self.answer(200, {"success": True, "commitOid": oid, "commitUrl": f"{hub.url}/{repo}/commit/{oid}"})


def mode(path: str) -> str:
    return "lfs" if path.endswith((".safetensors", ".onnx", ".gguf")) else "regular"


def entry(path: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    found = {"type": "file", "path": path, "size": len(content), "oid": blob}
    if mode(path) == "lfs":
        sha256 = hashlib.sha256(content).hexdigest()
        found |= {"oid": "0" * 40, "lfs": {"oid": sha256, "size": len(content), "pointerSize": 128}}
    return found


@contextmanager
def serving() -> Iterator[FakeHub]:
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
