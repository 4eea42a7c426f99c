"""Judges against a real server in a thread that fails in every way: waited for, or one line that says what to do."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from judge_asking import asked, judge_config
from judge_server import JudgeServer, rates

from kdlab.benchmarking.judging import cost, says
from kdlab.benchmarking.lines import Lines
from kdlab.benchmarking.questions import Bench
from kdlab.benchmarking.recipe import JudgeConfig

KEY = "sk-never-written-down"


@pytest.mark.parametrize("faults", [[429, 503, 500], ["drop", "cut", "odd"], [408, 502, 529]])
def test_what_passes_is_waited_for(bench: Bench, tmp_path: Path, faults: list[int | str]) -> None:
    with JudgeServer(faults=faults) as server:
        jobs, file = asked(bench, tmp_path, judge_config(server, concurrency=2))
        assert len(server.bodies) == 13
        assert server.most <= 2
    assert cost(jobs, file, JudgeConfig())["requests"] == 10
    assert all(says(job, file) is not None for job in jobs)


def test_the_server_says_how_long_to_wait(bench: Bench, tmp_path: Path) -> None:
    with JudgeServer(faults=[429], after="0.6") as server:
        began = time.monotonic()
        asked(bench, tmp_path, judge_config(server, concurrency=1))
    assert time.monotonic() - began >= 0.6


def test_a_hang_is_given_up_and_asked_again(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with JudgeServer(faults=["hang"]) as server:
        asked(bench, tmp_path, judge_config(server, timeout=1.0))
        assert len(server.bodies) == 11
    assert "nothing for 1 seconds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("always", "line"),
    [
        ("hang", r"nothing for 0.2 seconds \(ReadTimeout\)"),
        ("drop", r"the last: RemoteProtocolError"),
        (429, r"the last: 429 Too Many Requests \(you exceeded your quota\)"),
        (500, r"the last: 500 Internal Server Error \(you exceeded your quota\)"),
        ("cut", r"the last: "),
        ("odd", r"the last: not an answer as chat completions are"),
    ],
)
def test_what_does_not_pass_is_one_line(bench: Bench, tmp_path: Path, always: int | str, line: str) -> None:
    timeout = 0.2 if always == "hang" else 60.0  # a busy machine takes its time
    with JudgeServer(always=always, said="you exceeded\nyour quota") as server:
        with pytest.raises(ValueError, match=line) as error:
            asked(bench, tmp_path, judge_config(server, attempts=2, timeout=timeout, concurrency=1))
        assert len(server.bodies) == 2, "the other jobs are not tried"
    said = str(error.value)
    assert said.startswith(f"benchmark.mt_bench.judge.url={server.url}: no good answer in 2 attempts")
    assert said.endswith("run the same command again")
    assert "\n" not in said
    assert not (tmp_path / "judgments.jsonl").exists()


@pytest.mark.parametrize("model", ["judge-1", None])
def test_a_server_that_is_down_is_one_line(bench: Bench, tmp_path: Path, model: str | None) -> None:
    with JudgeServer() as server:
        pass
    with pytest.raises(ValueError, match=r"no good answer in 2 attempts, the last: ConnectError: .*refused") as error:
        asked(bench, tmp_path, judge_config(server, model=model, attempts=2))
    assert str(error.value).startswith(f"benchmark.mt_bench.judge.url={server.url}: ")
    assert "\n" not in str(error.value)


def test_a_model_that_the_server_does_not_have_is_named(bench: Bench, tmp_path: Path) -> None:
    with JudgeServer(always=404, said="The model `gpt-5o` does not exist") as server:
        with pytest.raises(ValueError, match=r"does not exist.*is benchmark.mt_bench.judge.model=gpt-5o what"):
            asked(bench, tmp_path, judge_config(server, model="gpt-5o", concurrency=1))
        assert len(server.bodies) == 1


def test_a_wrong_key_is_one_line_and_no_second_try(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with JudgeServer(key="another") as server:
        with pytest.raises(ValueError, match=r"judge.url=.*: 401 .*MY_KEY, which holds a key that is refused") as error:
            asked(bench, tmp_path, judge_config(server, key_variable="MY_KEY", concurrency=1))
        assert len(server.bodies) == 1
    assert "\n" not in str(error.value)
    told = capsys.readouterr()
    assert KEY not in str(error.value) + told.out + told.err
    monkeypatch.delenv("MY_KEY")
    with JudgeServer(key=KEY) as server, pytest.raises(ValueError, match=r"MY_KEY, which is not set"):
        asked(bench, tmp_path, judge_config(server, key_variable="MY_KEY"))


def test_the_key_is_in_no_file(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even where a server says it."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with JudgeServer(key=KEY, reply=lambda body: f"your key is {KEY} [[4]]", faults=[500]) as server:
        server.said = f"the key {KEY} is good"
        jobs, file = asked(bench, tmp_path, judge_config(server))
    assert {says(job, file) for job in jobs} == {4.0}
    told = capsys.readouterr()
    assert KEY not in file.path.read_text() + told.out + told.err


def test_a_job_that_was_killed_asks_for_the_rest(bench: Bench, tmp_path: Path) -> None:
    with (
        JudgeServer(faults=["", "", ""], always=500) as server,
        pytest.raises(ValueError, match=r"no good answer in 2 attempts.*what was done so far is kept.*same command"),
    ):
        asked(bench, tmp_path, judge_config(server, concurrency=1, attempts=2))
    kept = Lines(tmp_path / "judgments.jsonl").path.read_text().splitlines()
    assert len(kept) == 3
    with JudgeServer() as server:
        jobs, file = asked(bench, tmp_path, judge_config(server))
        assert len(server.bodies) == 7
    assert cost(jobs, file, JudgeConfig())["requests"] == 10


def test_what_was_paid_is_kept_when_another_request_fails(bench: Bench, tmp_path: Path) -> None:
    refused = threading.Event()

    def reply(body: dict[str, Any]) -> str:
        refused.wait(5)  # until the other request has failed
        time.sleep(0.2)
        return rates(body)

    with JudgeServer(faults=["", 400], reply=reply) as server:
        threading.Timer(0.3, refused.set).start()
        with pytest.raises(ValueError, match="400"):
            asked(bench, tmp_path, judge_config(server, concurrency=2))
        assert len(server.bodies) == 2
    assert len((tmp_path / "judgments.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("This model's maximum context length is 8192 tokens", r"lower .*judge.max_tokens or .*max_new_tokens"),
        ("'temperature' does not support 0 with this model", r"write benchmark.mt_bench.judge.temperature=null"),
    ],
)
def test_a_refusal_says_what_to_do(bench: Bench, tmp_path: Path, said: str, remedy: str) -> None:
    with JudgeServer(always=400, said=said) as server, pytest.raises(ValueError, match=remedy) as error:
        asked(bench, tmp_path, judge_config(server))
    assert "\n" not in str(error.value)
