"""What arrives at the hub, whatever happens on the way."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_hub
import pytest
from fake_hub import TOKEN, FakeHub

Make = Callable[..., Any]


@pytest.fixture
def sent(finished: Make, exported: Make, start: Make, tmp_path: Path) -> Make:
    """Send one run with its export."""
    run = finished()
    export = exported(run)

    def send(**options: Any) -> Any:
        return start(tmp_path / "job", run=str(run), export=str(export), dry_run=False, **options)

    return send


FILES = {
    "config.json",
    "kdlab_task.json",
    "model.safetensors",
    "tokenizer.json",
    "variants/onnx_int8/model.onnx",
    "variants/onnx_int8/variant.json",
    "run.json",
    "README.md",
}


def test_everything_arrives_and_the_second_time_there_is_nothing_to_do(
    sent: Make, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = sent()
    repo = hub.repos["me/student"]
    assert set(repo) - {".gitattributes"} == FILES == {file["path"] for file in record["files"]}
    assert hub.private["me/student"] is True
    assert repo["model.safetensors"] == bytes([1]) * 100_000
    assert [set(commit) for commit in hub.commits["me/student"]] == [
        {"config.json", "kdlab_task.json", "model.safetensors", "tokenizer.json"},
        {"variants/onnx_int8/model.onnx", "variants/onnx_int8/variant.json"},
        {"run.json", "README.md"},
    ]
    assert record["commit"] == hub.oid("me/student") == record["commits"][-1]["commit"]
    assert repo["README.md"] == (tmp_path / "job" / "README.md").read_bytes()
    capsys.readouterr()
    asked = len(hub.requests)
    again = sent()
    assert "nothing to do: " in capsys.readouterr().out
    assert again["commits"] == record["commits"]
    assert [one for one in hub.requests[asked:] if one.startswith(("PUT", "POST"))] == ["POST /api/repos/create"]


def test_a_file_that_changed_is_the_only_one_sent(sent: Make, hub: FakeHub, tmp_path: Path) -> None:
    sent()
    hub.repos["me/student"]["extra.txt"] = b"someone's own"
    (tmp_path / "multirun" / "run" / "model" / "tokenizer.json").write_text('{"model": {}}')
    record = sent()
    assert hub.commits["me/student"][3:] == [["tokenizer.json"]]
    assert record["others"] == ["extra.txt"]
    assert hub.repos["me/student"]["extra.txt"] == b"someone's own"


@pytest.mark.parametrize(
    ("step", "said", "arrived"),
    [
        ("blob", "does not answer", 0),
        ("commit", "answers 500", 0),
        ("second commit", "answers 500", 4),
    ],
)
def test_an_upload_that_is_cut_off_goes_on(sent: Make, hub: FakeHub, step: str, said: str, arrived: int) -> None:
    if step == "second commit":
        hub.commits_until_break = 1
    else:
        hub.breaks[step] = 100
    with pytest.raises(ValueError, match=said) as told:
        sent()
    assert "the same command goes on where it stopped" in str(told.value)
    assert "\n" not in str(told.value)
    assert len(hub.repos["me/student"]) - 1 == arrived
    hub.breaks, hub.commits_until_break = {}, None
    asked = len(hub.requests)
    record = sent()
    assert set(hub.repos["me/student"]) - {".gitattributes"} == FILES
    blobs = [one for one in hub.requests[asked:] if one.startswith("PUT")]
    assert len(blobs) == (2 if step == "blob" else 1 if step == "commit" else 0)
    assert sorted(path for commit in record["commits"] for path in commit["files"]) == sorted(FILES)


def test_a_blob_that_breaks_once_is_tried_again(sent: Make, hub: FakeHub) -> None:
    hub.breaks["blob"] = 1
    sent()
    assert hub.repos["me/student"]["model.safetensors"] == bytes([1]) * 100_000


def test_a_repository_that_exists_is_used(sent: Make, hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.repos["me/student"], hub.commits["me/student"] = {}, []
    hub.private["me/student"] = False
    assert sent(private=False)["private"] is False
    assert set(hub.repos["me/student"]) == FILES
    assert "stays so" not in capsys.readouterr().err
    hub.private["me/student"] = True
    assert sent(private=False)["private"] is True, "what the hub says, not what was asked for"
    assert "is there already, and private; it stays so" in capsys.readouterr().err


def test_what_nobody_asked_the_hub_is_not_recorded(finished: Make, start: Make, tmp_path: Path) -> None:
    assert start(tmp_path / "job", run=str(finished()))["private"] is None


def test_an_interrupted_upload_says_so_and_goes_on(
    sent: Make, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("huggingface_hub.HfApi.create_commit", interrupt)
        with pytest.raises(KeyboardInterrupt):
            sent()
    record = json.loads((tmp_path / "job" / "publish.json").read_text())
    assert (record["status"], record["error"]) == ("interrupted", None)
    again = sent()
    assert (again["status"], again["error"]) == ("finished", None)
    assert set(hub.repos["me/student"]) - {".gitattributes"} == FILES


def test_what_nobody_foresaw_is_recorded_without_the_token(
    sent: Make, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ArithmeticError(f"of {TOKEN}\nand more")

    monkeypatch.setattr("huggingface_hub.HfApi.create_commit", fail)
    with pytest.raises(ArithmeticError):
        sent()
    record = json.loads((tmp_path / "job" / "publish.json").read_text())
    assert (record["status"], record["error"]) == ("failed", "of ***")


def test_what_is_to_be_private_goes_to_no_public_repository(sent: Make, hub: FakeHub) -> None:
    hub.repos["me/student"], hub.commits["me/student"], hub.private["me/student"] = {}, [], False
    with pytest.raises(ValueError, match=r"^repo=me/student: is there already, and public, so"):
        sent()
    assert not hub.repos["me/student"]
    hub.private["me/student"] = True
    sent()
    assert set(hub.repos["me/student"]) == FILES


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"HF_TOKEN": "hf_" + "wrong" * 6}, r"^HF_TOKEN: http://127.0.0.1:\d+ does not accept it \(401\)"),
        ({"HF_TOKEN": "hf_wrong\x07one"}, "^HF_TOKEN: what it holds cannot be a token; set it anew$"),
        ({"HF_TOKEN": "hf_wróng"}, "^HF_TOKEN: what it holds cannot be a token; set it anew$"),
        ({"HF_TOKEN": ""}, "^dry_run=false: needs a token with write access in the environment variable HF_TOKEN"),
        ({"repo": "other/student"}, r"^repo=other/student: the token in HF_TOKEN may not write there \(403\)"),
    ],
)
def test_a_refusal_is_one_line_without_the_token(
    sent: Make, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], said: str
) -> None:
    options = {"repo": changes.pop("repo")} if "repo" in changes else {}
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=said) as told:
        sent(**options)
    assert TOKEN not in str(told.value)
    assert "wrong" not in str(told.value)
    assert "\n" not in str(told.value)
    assert not hub.repos


def test_no_network_is_said(sent: Make, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", closed)
    with pytest.raises(ValueError, match=r"^repo=me/student: http://127.0.0.1:\d+ does not answer \(ConnectError\)"):
        sent()


def test_the_token_is_in_no_file(sent: Make, hub: FakeHub, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sent()
    hub.breaks["commit"] = 100
    (tmp_path / "multirun" / "run" / "model" / "tokenizer.json").write_text('{"model": {}}')
    with pytest.raises(ValueError, match="answers 500"):
        sent()
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or fake_hub.TOKEN.encode() not in file.read_bytes(), file
    for content in hub.repos["me/student"].values():
        assert fake_hub.TOKEN.encode() not in content
    assert fake_hub.TOKEN not in "".join(capfd.readouterr())


def test_a_record_tells_each_commit_as_it_arrives(sent: Make, hub: FakeHub, tmp_path: Path) -> None:
    hub.commits_until_break = 2
    with pytest.raises(ValueError, match="answers 500"):
        sent()
    record = json.loads((tmp_path / "job" / "publish.json").read_text())
    assert (record["status"], record["private"]) == ("failed", True)
    assert record["error"].startswith("repo=me/student: http://127.0.0.1:")
    assert "answers 500" in record["error"]
    assert record["finished"]
    assert [commit["files"][0] for commit in record["commits"]] == ["config.json", "variants/onnx_int8/model.onnx"]
