"""The remote teacher says what the live one says, whatever the server's dialect and however the connection fails; and
what it cannot believe it refuses in one line."""

from __future__ import annotations

import json
import math
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

import httpx
import pytest
import torch
from completion_server import SERVED, ascii_bias, digest

from kdlab.batch import Batch
from kdlab.models.tiny import byte_tokenizer, save_tiny
from kdlab.rows import Dense, TopK, supervised
from kdlab.teachers.live import LiveTeacher, load_teacher
from kdlab.teachers.options import ServerConfig, TeacherConfig
from kdlab.teachers.remote import RemoteTeacher, tail

NUMBER = count()
SPEAKERS = ["vllm", "sglang", "llamacpp", "echo"]
K = 5


@pytest.fixture(scope="module")
def live() -> LiveTeacher:
    return load_teacher(TeacherConfig(path="tiny:llama", dtype="float32"))


def place(root: str, **behaviour: Any) -> str:
    """A url at which the server behaves so, with counts of its own."""
    told = {"speaks": "vllm", "id": next(NUMBER)} | behaviour
    return f"{root}/{';'.join(f'{name}={value}' for name, value in told.items())}/v1"


def teacher(url: str, path: str | None = "tiny:llama", **options: Any) -> RemoteTeacher:
    config = {"k": K, "pause": 0.01, "timeout": 20.0} | options
    return RemoteTeacher(TeacherConfig(source="openai", path=path, server=ServerConfig(url=url, **config)))


def seen(url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(url.removesuffix("v1") + "stats", trust_env=False).json()
    return found


def drawn(B: int = 3, T: int = 9, low: int = 3) -> torch.Tensor:
    ids_BT = torch.randint(low, 259, (B, T), generator=torch.Generator().manual_seed(B * T))
    ids_BT[:, 0] = 1  # every text begins with <bos>
    return ids_BT


def padded(side: str = "right") -> Batch:
    """Texts of every length from 1, of which the first has no row."""
    ids_BT, mask_BT = drawn(B=6, T=7), torch.zeros(6, 7, dtype=torch.long)
    for row, length in enumerate([1, 2, 3, 5, 6, 7]):
        mask_BT[row, slice(None, length) if side == "right" else slice(7 - length, None)] = 1
    ids_BT = torch.where(mask_BT.bool(), ids_BT, 0)
    before = torch.cat([torch.zeros(6, 1, dtype=torch.bool), mask_BT[:, :-1].bool()], 1)
    labels_BT = torch.where(mask_BT.bool() & before, ids_BT, -100)
    return Batch(input_ids_BT=ids_BT, labels_BT=labels_BT, attention_mask_BT=mask_BT)


def packed() -> Batch:
    ids_BT = drawn(B=2, T=10)
    positions_BT = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4, 5, 0], [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]])
    labels_BT = torch.where((positions_BT > 0) & (ids_BT % 3 > 0), ids_BT, -100)
    return Batch(input_ids_BT=ids_BT, labels_BT=labels_BT, position_ids_BT=positions_BT)


def plain() -> Batch:
    return Batch(input_ids_BT=drawn(), labels_BT=drawn())


BATCHES = {"right": padded(), "left": padded("left"), "packed": packed(), "plain": plain()}


def wanted(live: LiveTeacher, batch: Batch, k: int = K, bias_V: Any = 0.0) -> TopK:
    """The same from the model in this process, in float64: sorted logits, and the tail summed entry by entry."""
    positions_N, labels_N = supervised(batch.labels_BT, shift=True)
    side = live.signal(batch, positions_N)
    logits_NV = (side if isinstance(side, Dense) else side.dense()).logits_NV.double() + bias_V
    logp_NV = logits_NV.log_softmax(-1)
    falling = logp_NV.sort(-1, descending=True)
    return TopK(
        ids_NK=falling.indices[:, :k],
        logp_NK=falling.values[:, :k],
        rest_N=falling.values[:, k:].logsumexp(-1),
        vocabulary=259,
        logp_label_N=logp_NV.gather(1, labels_N[:, None])[:, 0],
    )


def compare(signal: TopK, wanted: TopK, *, labels: bool = True) -> None:
    assert signal.logp_NK.dtype == signal.rest_N.dtype == torch.float32
    assert (signal.vocabulary, signal.temperature) == (259, 1.0)
    assert torch.equal(signal.ids_NK, wanted.ids_NK)
    near = {"rtol": 0.0, "atol": 1e-5}
    torch.testing.assert_close(signal.logp_NK.double(), wanted.logp_NK, **near)
    torch.testing.assert_close(signal.rest_N.double().exp(), wanted.rest_N.exp(), **near)
    if labels:
        torch.testing.assert_close(signal.logp_label_N.double(), wanted.logp_label_N, **near)


def asked(remote: RemoteTeacher, batch: Batch) -> TopK:
    return remote.signal(batch, supervised(batch.labels_BT, shift=True)[0])


@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("speaks", SPEAKERS)
def test_the_signal_is_the_live_teachers_top_k(root: str, live: LiveTeacher, speaks: str, kind: str) -> None:
    remote = teacher(place(root, speaks=speaks, owner=speaks))
    assert remote.protocol == speaks
    signal = asked(remote, BATCHES[kind])
    compare(signal, wanted(live, BATCHES[kind]), labels=speaks != "llamacpp")
    assert (signal.logp_label_N is None) == (speaks == "llamacpp")


def test_rows_come_in_the_order_they_were_asked_for(root: str) -> None:
    remote, positions_N = teacher(place(root)), torch.tensor([20, 3, 11, 3])
    signal, rising = remote.signal(plain(), positions_N), remote.signal(plain(), torch.tensor([3, 11, 20]))
    assert torch.equal(signal.logp_NK, rising.logp_NK[[2, 0, 1, 0]])
    assert torch.equal(signal.logp_label_N, rising.logp_label_N[[2, 0, 1, 0]])


def test_no_rows_ask_nothing(root: str) -> None:
    url = place(root)
    remote = teacher(url)
    before = seen(url)["posts"]
    signal = remote.signal(plain(), torch.empty(0, dtype=torch.long))
    assert (len(signal), signal.ids_NK.shape) == (0, (0, K))
    assert seen(url)["posts"] == before


def test_all_entries_leave_no_tail(root: str, live: LiveTeacher) -> None:
    signal = asked(teacher(place(root), k=259), plain())
    assert bool((signal.rest_N == -math.inf).all())
    torch.testing.assert_close(signal.logp_NK.double(), wanted(live, plain(), k=259).logp_NK, rtol=0, atol=1e-5)
    nearly = asked(teacher(place(root), k=258), plain())
    assert bool(nearly.rest_N.isfinite().all())


def test_the_tail_is_stable_and_never_nothing() -> None:
    logp_NK = torch.tensor([[math.log(0.5), math.log(0.25)], [-1e-9, -30.0], [0.0, -1e3], [-20.0, -30.0]]).double()
    near_one = torch.log(torch.tensor(1 - (1 - 1e-9) - math.exp(-30.0)).double())
    got_N = tail(logp_NK, 10)
    assert got_N[0].item() == pytest.approx(math.log(0.25))
    assert got_N[1].item() == pytest.approx(math.log(1e-9 - math.exp(-30.0)), rel=1e-5), near_one
    assert got_N[2].item() == pytest.approx(math.log(torch.finfo(torch.float32).tiny))
    assert got_N[3].item() == pytest.approx(-math.exp(-20.0), rel=1e-3)
    assert bool((tail(logp_NK[:, :2], 2) == -math.inf).all())


@pytest.mark.parametrize("names", ["id", "piece"])
def test_the_echo_form_maps_names_to_ids(root: str, live: LiveTeacher, names: str) -> None:
    remote = teacher(place(root, speaks="echo", names=names))
    assert remote.protocol == "echo"  # found out: the server does not say what it is
    compare(asked(remote, BATCHES["packed"]), wanted(live, BATCHES["packed"]))


def test_the_echo_form_maps_texts_where_each_is_one_tokens(root: str, live: LiveTeacher) -> None:
    tokenizer = byte_tokenizer()
    ids = torch.tensor([tokenizer.encode("It was the best of times"), tokenizer.encode("it was the age of wisdom")])
    batch = Batch(input_ids_BT=ids, labels_BT=ids)
    signal = asked(teacher(place(root, speaks="echo", names="text", ascii=1)), batch)
    compare(signal, wanted(live, batch, bias_V=ascii_bias(tokenizer).double()))


def test_a_text_of_several_tokens_is_never_guessed(root: str) -> None:
    with pytest.raises(ValueError, match=r"names a token '�', and tokens \d+ and \d+ both read so; only a server") as e:
        asked(teacher(place(root, speaks="echo", names="text"), k=200), plain())
    assert "\n" not in str(e.value)


FAULTS = ["drop", "refuse", "500", "502", "429", "cut", "html", "short", "lost", "positive", "nan", "ids", "certain"]


@pytest.mark.parametrize("fault", FAULTS)
def test_what_passes_is_tried_again(
    root: str, live: LiveTeacher, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = place(root, faults=f",{fault},,{fault}")  # the first request is the probe
    remote = teacher(url, batch_size=3, concurrency=1)
    compare(asked(remote, BATCHES["packed"]), wanted(live, BATCHES["packed"]))
    assert remote.client.retries == 2
    assert remote.client.requests == seen(url)["posts"] + 1  # the list of models
    assert capsys.readouterr().err.count("trying again (1 of 6 attempts failed)") == 2


def test_faults_in_a_row_and_a_slow_answer(root: str, live: LiveTeacher) -> None:
    url = place(root, faults=",drop,500,slow,cut", slow=0.8)
    remote = teacher(url, timeout=0.4, concurrency=1)
    compare(asked(remote, plain()), wanted(live, plain()))
    assert remote.client.retries == 4


def test_the_server_says_how_long_to_wait(root: str) -> None:
    remote = teacher(place(root, faults=",503", after=1), concurrency=1)
    begin = time.monotonic()
    asked(remote, plain())
    assert 1 <= time.monotonic() - begin < 10
    assert remote.client.retries == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("500", r"500 Internal Server Error \(out of memory\)"),
        ("cut", r"cut or damaged JSON"),
        ("refuse", r"disconnected|reset"),
        ("short", r"tells of 8 positions of a text of 9 tokens"),
        ("lost", r"0 answers to text \d of the request"),
        ("positive", r"0.25 is no log-probability"),
        ("nan", r"nan is no log-probability"),
        ("ids", r"tells of other tokens than were sent"),
        ("certain", r"probabilities that add up to more than 1"),
    ],
)
def test_after_the_last_attempt_it_says_so_in_one_line(root: str, fault: str, reason: str) -> None:
    faults = "," + ",".join([fault] * 50)
    remote = teacher(place(root, faults=faults), attempts=3)
    with pytest.raises(ValueError, match=reason) as error:
        asked(remote, plain())
    line = str(error.value)
    assert line.startswith("teacher.server.url=http://127.0.0.1:")
    assert "no good answer in 3 attempts" in line
    assert "run the same command again" in line
    assert "\n" not in line


def test_nobody_there_is_said_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"^teacher.server.url=http://127.0.0.1:9/v1: no good answer in 2 attempts"):
        teacher("http://127.0.0.1:9/v1", attempts=2)


def test_a_server_of_pages_is_not_asked_twice() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as pages:
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        with pytest.raises(ValueError, match=r": 501 .*; the url ends before /completions, .* text server\?$") as error:
            teacher(f"http://127.0.0.1:{pages.server_port}/v1", model="m")
        pages.shutdown()
    assert "<" not in str(error.value)


def test_requests_go_out_at_once_and_hold_a_batch_each(root: str) -> None:
    ids_BT = drawn(B=16, T=5)
    url = place(root, delay=0.15)
    remote = teacher(url, batch_size=2, concurrency=4)
    asked(remote, Batch(input_ids_BT=ids_BT, labels_BT=ids_BT))
    assert seen(url)["most"] == 4
    assert seen(url)["texts"] == [1] + [2] * 8
    few = place(root, delay=0.05)
    asked(teacher(few, batch_size=8, concurrency=4), Batch(input_ids_BT=ids_BT[:8], labels_BT=ids_BT[:8]))
    assert seen(few)["texts"] == [1, 2, 2, 2, 2]  # no connection is left idle


def test_the_key_is_sent_and_never_shown(
    root: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY", " sk-secret ")
    url = place(root, key=digest("Bearer sk-secret"), faults=",500")
    remote = teacher(url, key_variable="MY_KEY")
    asked(remote, plain())
    assert seen(url)["keys"] == ["Bearer sk-secret"]
    shown = capsys.readouterr().err + repr(vars(remote.server)) + remote.description + remote.identity
    for name, problem in {"MY_KEY": "holds a key that is refused", "NO_KEY": "is not set"}.items():
        with pytest.raises(ValueError, match=f"401 Unauthorized.* environment variable {name}, which {problem}") as e:
            teacher(place(root, key="another"), key_variable=name)
        shown += str(e.value)
        assert "\n" not in str(e.value)
    assert "sk-secret" not in shown
    assert "bad key Bearer ***" in shown
    monkeypatch.setenv("MY_KEY", "two words\n")
    with pytest.raises(ValueError, match=r"teacher.server.key_variable=MY_KEY: what it holds cannot be a key"):
        teacher(url, key_variable="MY_KEY")


@pytest.mark.parametrize(
    ("behaviour", "options", "message"),
    [
        ({"models": "a,b"}, {}, r"teacher.server.model is not set, and the server lists 2: a, b; name one"),
        ({"models": "hidden"}, {}, r"teacher.server.model is not set, and the server lists none; name one"),
        (
            {"models": "llama-8b,qwen"},
            {"model": "lama-8b"},
            r"model=lama-8b: .* no such model; did you mean llama-8b\?",
        ),
        ({"models": "llama,qwen"}, {"model": "zz"}, r"teacher.server.model=zz: .* it has llama, qwen"),
        (
            {"limit": 4},
            {},
            r"^teacher.server.k=5: 400 Bad Request \(Requested prompt logprobs of 5, .* --max-logprobs\)",
        ),
        ({"cap": 4}, {}, r"^teacher.server.k=5: the server gives [45] a token; .* \(vLLM: --max-logprobs\)"),
        ({}, {"k": 260}, r"teacher.server.k=260: the vocabulary has 259 entries"),
        (
            {"speaks": "nothing"},
            {},
            r"does not tell the log-probabilities of a prompt \(as vllm does: .*; as echo does",
        ),
        ({"speaks": "echo"}, {"protocol": "vllm"}, r"does not tell .*\(as vllm does: no prompt_logprobs\)"),
        (
            {"speaks": "vllm"},
            {"protocol": "sglang"},
            r"404 Not Found \(no such page\); the url ends before /completions",
        ),
        (
            {"speaks": "echo", "names": "other"},
            {"attempts": 1},
            r"names token \d+ of the prompt '<\d+>', and the token",
        ),
        ({"always": "model"}, {}, r"it is the model 'another' that answers, not 'tiny-llama'"),
        ({"always": "texts"}, {}, r"token \d+ reads 'zz' there and '.' here: teacher.path is not the tokenizer"),
    ],
)
def test_what_does_not_pass_is_refused_at_once(
    root: str, behaviour: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    url = place(root, **behaviour)
    with pytest.raises(ValueError, match=message) as error:
        asked(teacher(url, **options), plain())
    assert "\n" not in str(error.value)
    assert seen(url)["posts"] <= 2


def test_an_encoder_decoder_batch_is_refused(root: str) -> None:
    ids = drawn()
    batch = Batch(input_ids_BT=ids, labels_BT=ids, attention_mask_BT=torch.ones_like(ids), shift=False)
    with pytest.raises(ValueError, match="teacher=openai: a server continues texts"):
        teacher(place(root)).signal(batch, torch.tensor([0]))


def test_it_says_what_it_is(root: str, tmp_path: Any) -> None:
    url = place(root)
    one, two = teacher(url), teacher(place(root, speaks="echo"), path=str(save_tiny("llama", tmp_path / "m")))
    assert one.description.startswith(f"openai {SERVED} at 127.0.0.1:")
    assert one.identity == two.identity  # another url, another dialect, the tokenizer from elsewhere
    assert one.identity != teacher(url, k=K + 1).identity
    assert one.identity != teacher(place(root, models="other")).identity
    assert (one.model, one.split, one.disk_bytes, one.vocabulary, len(one.tokenizer)) == (None, None, None, 259, 259)


def test_a_padded_head_is_read_from_the_config(root: str, tmp_path: Any) -> None:
    byte_tokenizer().save_pretrained(tmp_path)
    assert teacher(place(root), path=str(tmp_path)).vocabulary == 259
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 320}))
    assert teacher(place(root), path=str(tmp_path)).vocabulary == 320
    assert teacher(place(root, speaks="llamacpp", owner="llamacpp"), path=str(tmp_path)).vocabulary == 259


def test_the_tokenizer_may_come_from_the_models_name(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(teacher(place(root, models="tiny:llama"), path=None).tokenizer) == 259
    with pytest.raises(
        ValueError, match=r"^teacher.path is not set, and the server's name of its model is no token"
    ) as e:
        teacher(place(root, models=".nowhere"), path=None)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "localhost:8000"}, r"teacher.server.url=localhost:8000: must begin with http:// or https://"),
        ({"url": "http://:80/v1"}, r"names no host and port"),
        ({"url": "http://a:port/v1"}, r"names no host and port"),
        ({"url": "http://a/v1?x=1"}, r"must end before /completions, without \? or #"),
        ({"protocol": "grpc"}, r"teacher.server.protocol=grpc: must be one of auto, vllm, sglang, llamacpp, echo"),
        ({"k": 0}, r"teacher.server.k=0: must be at least 1"),
        ({"concurrency": 0}, r"teacher.server.concurrency=0: must be at least 1"),
        ({"timeout": 0.0}, r"teacher.server.timeout=0.0: must be > 0 seconds"),
        ({"pause": float("inf")}, r"teacher.server.pause=inf: must be > 0 seconds and finite"),
    ],
)
def test_mistakes_in_the_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServerConfig(**options)


def test_a_secret_in_an_option_is_not_repeated() -> None:
    for options in ({"key_variable": "sk-secret"}, {"url": "http://me:sk-secret@host/v1"}):
        with pytest.raises(ValueError, match=r"^teacher.server") as error:
            ServerConfig(**options)
        assert "secret" not in str(error.value)
