"""Judges against a real server in a thread that fails in every way, and against a model in this process."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from judge_server import JudgeServer, rates, rating_of

from kdlab.benchmarking.jobs import Job, single_jobs
from kdlab.benchmarking.judges import open_judge
from kdlab.benchmarking.judging import cost, cut_short, judge_missing, says
from kdlab.benchmarking.lines import Lines
from kdlab.benchmarking.questions import Bench
from kdlab.benchmarking.recipe import JudgeConfig
from kdlab.benchmarking.scores import rated

ANSWERS = {number: (f"one {number}", f"two {number}") for number in range(81, 86)}
KEY = "sk-never-written-down"


def asked(bench: Bench, folder: Path, config: JudgeConfig) -> tuple[list[Job], Lines]:
    """Judge the answers of a fresh process in `folder`."""
    judge, file = open_judge(config, device=torch.device("cpu")), Lines(folder / "judgments.jsonl")
    jobs = single_jobs(bench, ANSWERS, stage="before", judge=judge.identity)
    judge_missing(jobs, judge, file, tries=config.tries, progress=False)
    return jobs, file


def config(server: JudgeServer, **options: Any) -> JudgeConfig:
    return JudgeConfig(**({"url": server.url, "pause": 0.01, "timeout": 5.0, "attempts": 4} | options))


def test_what_is_asked_and_what_is_read(bench: Bench, tmp_path: Path) -> None:
    with JudgeServer() as server:
        jobs, file = asked(bench, tmp_path, config(server, price_in=3.0, price_out=15.0))
    assert [says(job, file) for job in jobs] == [rating_of(job.user) for job in jobs]
    body = next(body for body in server.bodies if body["messages"][1]["content"] == jobs[0].user)
    assert body == {
        "model": "judge-1",
        "messages": [{"role": "system", "content": "You judge (single)."}, {"role": "user", "content": jobs[0].user}],
        "max_tokens": 2048,
        "temperature": 0.0,
    }
    told = cost(jobs, file, config(server, price_in=3.0, price_out=15.0))
    assert told == {
        "requests": 10,
        "tokens_in": 1000,
        "tokens_out": 100,
        "price": pytest.approx((1000 * 3 + 100 * 15) / 1e6),
        "uncounted": 0,
    }


def test_nothing_is_asked_twice(bench: Bench, tmp_path: Path) -> None:
    with JudgeServer() as server:
        asked(bench, tmp_path, config(server))
        asked(bench, tmp_path, config(server))
        assert len(server.bodies) == 10
        asked(bench, tmp_path, config(server, max_tokens=99))
        assert len(server.bodies) == 20, "another judge"


@pytest.mark.parametrize("faults", [[429, 503, 500], ["drop", "cut", "odd"], [408, 502, 529]])
def test_what_passes_is_waited_for(bench: Bench, tmp_path: Path, faults: list[int | str]) -> None:
    with JudgeServer(faults=faults) as server:
        jobs, file = asked(bench, tmp_path, config(server, concurrency=2))
        assert len(server.bodies) == 13
        assert server.most <= 2
    assert cost(jobs, file, JudgeConfig())["requests"] == 10
    assert all(says(job, file) is not None for job in jobs)


def test_the_server_says_how_long_to_wait(bench: Bench, tmp_path: Path) -> None:
    with JudgeServer(faults=[429], after="0.6") as server:
        began = time.monotonic()
        asked(bench, tmp_path, config(server, concurrency=1))
    assert time.monotonic() - began >= 0.6


def test_a_hang_is_given_up_and_asked_again(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with JudgeServer(faults=["hang"]) as server:
        asked(bench, tmp_path, config(server, timeout=0.3))
        assert len(server.bodies) == 11
    assert "nothing for 0.3 seconds" in capsys.readouterr().err


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
    with JudgeServer(always=always, said="you exceeded\nyour quota") as server:
        with pytest.raises(ValueError, match=line) as error:
            asked(bench, tmp_path, config(server, attempts=2, timeout=0.2, concurrency=1))
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
        asked(bench, tmp_path, config(server, model=model, attempts=2))
    assert str(error.value).startswith(f"benchmark.mt_bench.judge.url={server.url}: ")
    assert "\n" not in str(error.value)


def test_a_model_that_the_server_does_not_have_is_named(bench: Bench, tmp_path: Path) -> None:
    with JudgeServer(always=404, said="The model `gpt-5o` does not exist") as server:
        with pytest.raises(ValueError, match=r"does not exist.*is benchmark.mt_bench.judge.model=gpt-5o what"):
            asked(bench, tmp_path, config(server, model="gpt-5o", concurrency=1))
        assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "said", ["Rating: [[11]]", "Rating: [[0]]", "[[-1]]", "five stars", "", None, "<think>[[5]] seems right, but"]
)
def test_what_is_no_rating_is_counted(bench: Bench, tmp_path: Path, said: str | None) -> None:
    with JudgeServer(reply=lambda body: said, finish="length") as server:
        jobs, file = asked(bench, tmp_path, config(server, tries=2))
        asked(bench, tmp_path, config(server, tries=2))
        assert len(server.bodies) == 20
    found = rated(jobs, [says(job, file) for job in jobs])
    assert (found["overall"], found["count"], found["unparsed"]) == (None, 0, 10)
    assert cut_short(jobs, file) == 10


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("Rating: [[8.5]]", 8.5),
        ("Rating: [[ 8 ]]", 8.0),
        ("why " * 20_000 + "Rating: [[8]]", 8.0),
        ("<think>" + "[[2]] or [[9]]? " * 5_000 + "</think>\nRating: [[8]]", 8.0),
        ("\ud83d half a character [[8]]", 8.0),
    ],
)
def test_ratings_come_in_many_forms(bench: Bench, tmp_path: Path, said: str, value: float) -> None:
    with JudgeServer(reply=lambda body: said) as server:
        jobs, file = asked(bench, tmp_path, config(server))
        assert len(server.bodies) == 10
    assert {says(job, file) for job in jobs} == {value}
    assert cut_short(jobs, file) == 0
    assert [says(job, Lines(file.path)) for job in jobs] == [value] * 10


def test_malformed_ratings_are_asked_for_again_at_another_temperature(bench: Bench, tmp_path: Path) -> None:
    seen: Counter[str] = Counter()

    def reply(body: dict[str, Any]) -> str:
        user = body["messages"][1]["content"]
        seen[user] += 1
        if "Say 81." in user:
            return "I rate it five."  # never a rating
        return rates(body) if "Say 82." not in user or seen[user] == 2 else "[[rating]]"

    with JudgeServer(reply=reply) as server:
        jobs, file = asked(bench, tmp_path, config(server, tries=3))
        assert len(server.bodies) == 6 + 2 * 3 + 2 * 2
        hot = [body["messages"][1]["content"] for body in server.bodies if body["temperature"] == 0.7]
        assert all("Say 81." in user or "Say 82." in user for user in hot)
        assert len(hot) == 2 * 2 + 2 * 1
        asked(bench, tmp_path, config(server, tries=3))
        assert len(server.bodies) == 16, "what cannot be read is not paid for again"
    unread = [job for job in jobs if says(job, file) is None]
    assert {job.question.id for job in unread} == {81}
    assert cost(jobs, file, JudgeConfig())["requests"] == 16, "every try is counted"


def test_a_wrong_key_is_one_line_and_no_second_try(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with JudgeServer(key="another") as server:
        with pytest.raises(ValueError, match=r"judge.url=.*: 401 .*MY_KEY, which holds a key that is refused") as error:
            asked(bench, tmp_path, config(server, key_variable="MY_KEY", concurrency=1))
        assert len(server.bodies) == 1
    assert "\n" not in str(error.value)
    told = capsys.readouterr()
    assert KEY not in str(error.value) + told.out + told.err
    monkeypatch.delenv("MY_KEY")
    with JudgeServer(key=KEY) as server, pytest.raises(ValueError, match=r"MY_KEY, which is not set"):
        asked(bench, tmp_path, config(server, key_variable="MY_KEY"))


def test_the_key_is_in_no_file(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even where a server says it."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with JudgeServer(key=KEY, reply=lambda body: f"your key is {KEY} [[4]]", faults=[500]) as server:
        server.said = f"the key {KEY} is good"
        jobs, file = asked(bench, tmp_path, config(server))
    assert {says(job, file) for job in jobs} == {4.0}
    told = capsys.readouterr()
    assert KEY not in file.path.read_text() + told.out + told.err


def test_a_job_that_was_killed_asks_for_the_rest(bench: Bench, tmp_path: Path) -> None:
    with (
        JudgeServer(faults=["", "", ""], always=500) as server,
        pytest.raises(ValueError, match=r"no good answer in 2 attempts.*what was done so far is kept.*same command"),
    ):
        asked(bench, tmp_path, config(server, concurrency=1, attempts=2))
    kept = Lines(tmp_path / "judgments.jsonl").path.read_text().splitlines()
    assert len(kept) == 3
    with JudgeServer() as server:
        jobs, file = asked(bench, tmp_path, config(server))
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
            asked(bench, tmp_path, config(server, concurrency=2))
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
        asked(bench, tmp_path, config(server))
    assert "\n" not in str(error.value)


def test_newer_models_name_their_limit_otherwise(bench: Bench, tmp_path: Path) -> None:
    said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    with JudgeServer(faults=[400], said=said) as server:
        asked(bench, tmp_path, config(server, concurrency=1, temperature=None))
    assert "max_tokens" in server.bodies[0]
    assert all("max_completion_tokens" in body and "max_tokens" not in body for body in server.bodies[1:])
    assert not any("temperature" in body for body in server.bodies)


def test_tokens_that_are_not_told_are_counted_as_such(bench: Bench, tmp_path: Path) -> None:
    with JudgeServer(usage=False) as server:
        jobs, file = asked(bench, tmp_path, config(server))
    told = cost(jobs, file, JudgeConfig())
    assert (told["requests"], told["tokens_in"], told["price"], told["uncounted"]) == (10, 0, None, 10)


@pytest.mark.parametrize(
    ("models", "line"),
    [
        ((), r"benchmark.mt_bench.judge.model is not set, and the server lists none; name one"),
        (("a", "b"), r"benchmark.mt_bench.judge.model is not set, and the server lists 2: a, b; name one"),
    ],
)
def test_the_only_model_is_taken(models: tuple[str, ...], line: str) -> None:
    with JudgeServer(models=models) as server, pytest.raises(ValueError, match=line):
        open_judge(config(server), device=torch.device("cpu"))


def local(**options: Any) -> JudgeConfig:
    return JudgeConfig(kind="local", path="tiny:llama", max_tokens=6, concurrency=3, **options)


def test_a_model_in_this_process_judges(bench: Bench, tmp_path: Path) -> None:
    jobs, file = asked(bench, tmp_path, local(tries=2))
    lines = [line for job in jobs for line in file.of(job.key)]
    assert len(lines) == 20, "a random model rates nothing"
    assert all(says(job, file) is None for job in jobs)
    assert all(0 < line["tokens_out"] <= 6 for line in lines)
    assert any(file.of(job.key)[0]["judgement"] != file.of(job.key)[1]["judgement"] for job in jobs), "drawn again"
    again = tmp_path / "again"
    _, other = asked(bench, again, local(tries=2))
    assert [other.of(job.key) for job in jobs] == [file.of(job.key) for job in jobs]


def test_a_local_judge_reads_the_whole_prompt_or_none(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"judge.path=tiny:llama: question 8\d takes \d+ tokens, and it has room for"):
        asked(bench, tmp_path, JudgeConfig(kind="local", path="tiny:llama", max_tokens=100_000))
