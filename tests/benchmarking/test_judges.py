"""What judges are asked and what is read of them: a real server in a thread, and a model in this process."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from judge_asking import asked, judge_config
from judge_server import JudgeServer, rates, rating_of

from kdlab.benchmarking.judges import open_judge
from kdlab.benchmarking.judging import cost, cut_short, says
from kdlab.benchmarking.lines import Lines
from kdlab.benchmarking.questions import Bench
from kdlab.benchmarking.recipe import JudgeConfig
from kdlab.benchmarking.scores import rated


def test_what_is_asked_and_what_is_read(bench: Bench, tmp_path: Path) -> None:
    with JudgeServer() as server:
        jobs, file = asked(bench, tmp_path, judge_config(server, price_in=3.0, price_out=15.0))
    assert [says(job, file) for job in jobs] == [rating_of(job.user) for job in jobs]
    body = next(body for body in server.bodies if body["messages"][1]["content"] == jobs[0].user)
    assert body == {
        "model": "judge-1",
        "messages": [{"role": "system", "content": "You judge (single)."}, {"role": "user", "content": jobs[0].user}],
        "max_tokens": 2048,
        "temperature": 0.0,
    }
    told = cost(jobs, file, judge_config(server, price_in=3.0, price_out=15.0))
    assert told == {
        "requests": 10,
        "tokens_in": 1000,
        "tokens_out": 100,
        "price": pytest.approx((1000 * 3 + 100 * 15) / 1e6),
        "uncounted": 0,
    }


def test_nothing_is_asked_twice(bench: Bench, tmp_path: Path) -> None:
    with JudgeServer() as server:
        asked(bench, tmp_path, judge_config(server))
        asked(bench, tmp_path, judge_config(server))
        assert len(server.bodies) == 10
        asked(bench, tmp_path, judge_config(server, max_tokens=99))
        assert len(server.bodies) == 20, "another judge"


@pytest.mark.parametrize(
    "said", ["Rating: [[11]]", "Rating: [[0]]", "[[-1]]", "five stars", "", None, "<think>[[5]] seems right, but"]
)
def test_what_is_no_rating_is_counted(bench: Bench, tmp_path: Path, said: str | None) -> None:
    with JudgeServer(reply=lambda body: said, finish="length") as server:
        jobs, file = asked(bench, tmp_path, judge_config(server, tries=2))
        asked(bench, tmp_path, judge_config(server, tries=2))
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
        jobs, file = asked(bench, tmp_path, judge_config(server))
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
        jobs, file = asked(bench, tmp_path, judge_config(server, tries=3))
        assert len(server.bodies) == 6 + 2 * 3 + 2 * 2
        hot = [body["messages"][1]["content"] for body in server.bodies if body["temperature"] == 0.7]
        assert all("Say 81." in user or "Say 82." in user for user in hot)
        assert len(hot) == 2 * 2 + 2 * 1
        asked(bench, tmp_path, judge_config(server, tries=3))
        assert len(server.bodies) == 16, "what cannot be read is not paid for again"
    unread = [job for job in jobs if says(job, file) is None]
    assert {job.question.id for job in unread} == {81}
    assert cost(jobs, file, JudgeConfig())["requests"] == 16, "every try is counted"


def test_newer_models_name_their_limit_otherwise(bench: Bench, tmp_path: Path) -> None:
    said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    with JudgeServer(faults=[400], said=said) as server:
        asked(bench, tmp_path, judge_config(server, concurrency=1, temperature=None))
    assert "max_tokens" in server.bodies[0]
    assert all("max_completion_tokens" in body and "max_tokens" not in body for body in server.bodies[1:])
    assert not any("temperature" in body for body in server.bodies)


def test_tokens_that_are_not_told_are_counted_as_such(bench: Bench, tmp_path: Path) -> None:
    with JudgeServer(usage=False) as server:
        jobs, file = asked(bench, tmp_path, judge_config(server))
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
        open_judge(judge_config(server), device=torch.device("cpu"))


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
