"""What MT-Bench keeps to go on from: deleted, cut, edited or of another run, it is made again or named, and nothing
that has been judged is paid twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from bench_files import questions, write_lines
from judge_server import JudgeServer, rates, rating_of

from kdlab.benchmarking.recipe import JudgeConfig, MTBenchConfig
from kdlab.data.dataset import DatasetConfig
from kdlab.models.loading import load_language_model, load_tokenizer
from kdlab.teachers.options import TeacherConfig
from kdlab.training.callbacks.suites import KEPT, Suites
from kdlab.training.pair import ModelPair
from kdlab.training.recipe import BenchmarkConfig, TrainConfig, TrainerConfig

ALL = 20 + 20
"""Judgements of a whole run: both turns of five questions before and after, and of the pairs in both orders."""


def reply(body: dict[str, Any]) -> str:
    pair = "pairwise" in body["messages"][0]["content"]
    return f"[[{'ABC'[rating_of(body['messages'][1]['content']) % 3]}]]" if pair else rates(body)


@pytest.fixture(scope="module")
def models() -> list[Any]:
    """A student before training, after it, and another one."""
    found = [load_language_model("tiny:llama") for _ in range(3)]
    for seed, model in enumerate(found):
        torch.manual_seed(seed)
        model.lm_head.weight.data += seed * torch.randn_like(model.lm_head.weight)
    return found


class Whole:
    """The benchmarks of one process of a run."""

    def __init__(self, folder: Path, models: list[Any], server: JudgeServer, **judge: Any) -> None:
        told = JudgeConfig(**({"url": server.url, "model": "judge-1", "pause": 0.01, "attempts": 1} | judge))
        suite = MTBenchConfig(path=str(folder), modes=["single", "pairwise"], max_new_tokens=4, judge=told)
        self.config = TrainConfig(
            name="test",
            teacher=TeacherConfig(source="none"),
            dataset=DatasetConfig(path="unread.jsonl"),
            trainer=TrainerConfig(progress=False),
            benchmark=BenchmarkConfig(samples=0, speed=False, mt_bench=suite),
        )
        self.models, self.tokenizer = models, load_tokenizer("tiny:llama")
        self.said: list[str] = []

    def run(self, place: Path, *, until: str = "after") -> dict[str, Any]:
        record: dict[str, Any] = {"metrics": {"teacher": None, "before": None, "after": None}, "files": {}}
        suites = Suites(self.config, place, options={}, device=torch.device("cpu"), record=record, say=self.said.append)
        suites.before(self._pair(self.models[0]), self.tokenizer)
        if until == "after":
            suites.after(self._pair(self.models[1]), self.tokenizer)
        return cast("dict[str, Any]", json.loads(json.dumps(record["metrics"])))

    def _pair(self, model: Any) -> ModelPair:
        return cast("ModelPair", SimpleNamespace(split=SimpleNamespace(model=model), teacher=None))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, models: list[Any]) -> tuple[Path, Path, dict[str, Any]]:
    """The benchmark's files, the folder of a run, and its metrics."""
    from bench_files import write_bench

    data, place = write_bench(tmp_path_factory.mktemp("data") / "mt_bench"), tmp_path_factory.mktemp("run")
    with JudgeServer(reply=reply) as server:
        found = Whole(data, models, server).run(place)
        assert len(server.bodies) == ALL
    return data, place, found


@pytest.fixture
def place(finished: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(finished[1], tmp_path / "run"))


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer(reply=reply) as server:
        yield server


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def rewrite(file: Path, change: Callable[[list[str]], list[str]]) -> None:
    file.write_text("".join(change(file.read_text().splitlines(keepends=True))))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


ANSWERS, JUDGMENTS = "mt_bench/answers.jsonl", "mt_bench/judgments.jsonl"
DAMAGE: dict[str, tuple[Callable[[Path], object], int]] = {
    "nothing": (lambda run: None, 0),
    "no answers": (lambda run: (run / ANSWERS).unlink(), 0),
    "answers cut": (lambda run: cut(run / ANSWERS), 0),
    "no answers before": (lambda run: rewrite(run / ANSWERS, lambda found: found[5:]), 0),
    "no answers after": (lambda run: rewrite(run / ANSWERS, lambda found: found[:5]), 0),
    "one answer is out": (lambda run: rewrite(run / ANSWERS, lambda found: [*found[:2], *found[3:]]), 0),
    "no judgements": (lambda run: (run / JUDGMENTS).unlink(), ALL - 10),  # those before are in benchmarks.json
    "judgements cut": (lambda run: cut(run / JUDGMENTS), 1),
    "judgements without their last break": (
        lambda run: (run / JUDGMENTS).write_bytes((run / JUDGMENTS).read_bytes()[:-1]),
        0,
    ),
    "no folder": (lambda run: shutil.rmtree(run / "mt_bench"), ALL - 10),
    "no scores": (lambda run: (run / KEPT).unlink(), 0),
    "scores cut": (lambda run: cut(run / KEPT), 0),
    "scores edited": (
        lambda run: rewrite(run / KEPT, lambda found: ["".join(found).replace('"count": 10', '"count": 9')]),
        0,
    ),
    "scores of nothing": (lambda run: (run / KEPT).write_text("{}"), 0),
    "scores that are a list": (lambda run: (run / KEPT).write_text("[]"), 0),
    "no scores and no answers": (lambda run: ((run / KEPT).unlink(), (run / ANSWERS).unlink()), 0),
    "nothing at all": (lambda run: (shutil.rmtree(run / "mt_bench"), (run / KEPT).unlink()), ALL),
}
COMMON = ("no answers", "judgements cut", "scores edited")


@pytest.mark.parametrize(
    "what", [what if what in COMMON else pytest.param(what, marks=pytest.mark.slow) for what in DAMAGE]
)
def test_what_is_damaged_is_made_again_and_nothing_paid_twice(
    finished: tuple[Path, Path, dict[str, Any]], place: Path, server: JudgeServer, models: list[Any], what: str
) -> None:
    damage, asked = DAMAGE[what]
    damage(place)
    assert Whole(finished[0], models, server).run(place) == finished[2]
    assert len(server.bodies) == asked
    again = Whole(finished[0], models, server)
    assert again.run(place) == finished[2]
    assert len(server.bodies) == asked, "all is there again"
    assert not any("measured again" in line for line in again.said)


@pytest.mark.parametrize("name", [ANSWERS, JUDGMENTS])
def test_an_edited_line_is_named_before_training(
    finished: tuple[Path, Path, dict[str, Any]], place: Path, server: JudgeServer, models: list[Any], name: str
) -> None:
    rewrite(
        place / name, lambda found: [found[0], found[1].replace('"question_id": 8', '"question_id": 9'), *found[2:]]
    )
    with pytest.raises(ValueError, match=rf"{name}, line 2: damaged or edited; take the line out") as error:
        Whole(finished[0], models, server).run(place, until="before")
    assert "\n" not in str(error.value)
    rewrite(place / name, lambda found: [found[0], *found[2:]])
    assert Whole(finished[0], models, server).run(place) == finished[2]


def test_prices_and_the_size_of_a_batch_measure_nothing_again(
    finished: tuple[Path, Path, dict[str, Any]], place: Path, server: JudgeServer, models: list[Any]
) -> None:
    was = (place / KEPT).read_bytes()
    whole = Whole(finished[0], models, server, price_in=3.0, price_out=15.0)
    suite = whole.config.benchmark.mt_bench
    assert suite is not None
    suite.batch_size, suite.path = 3, shutil.copytree(finished[0], str(place / "moved"))
    found = whole.run(place)
    assert not any("measured again" in line for line in whole.said)
    assert ((place / KEPT).read_bytes(), server.bodies) == (was, [])
    price = pytest.approx((1000 * 3 + 100 * 15) / 1e6)
    assert [found[stage]["mt_bench"]["cost"]["price"] for stage in STAGES] == [price] * 2
    assert sum("price 0.0045" in line for line in whole.said) == 2
    without = Whole(finished[0], models, server).run(place)
    assert without == finished[2]


@pytest.mark.slow
def test_another_model_is_asked_itself(
    finished: tuple[Path, Path, dict[str, Any]], place: Path, server: JudgeServer, models: list[Any]
) -> None:
    other = Whole(finished[0], [models[2], models[1]], server)
    found = other.run(place)
    assert any("of other options, damaged or edited; measured again" in line for line in other.said)
    assert found["before"] != finished[2]["before"]
    assert found["after"]["mt_bench"] == finished[2]["after"]["mt_bench"]
    assert len(server.bodies) == 10 + 20, "those after training are paid for"
    assert Whole(finished[0], models, server).run(place) == finished[2]
    assert len(server.bodies) == 10 + 20, "nor are the first lost"


@pytest.mark.slow
def test_a_changed_question_is_asked_both_times(
    finished: tuple[Path, Path, dict[str, Any]], tmp_path: Path, place: Path, server: JudgeServer, models: list[Any]
) -> None:
    Whole(finished[0], models, server).run(place, until="before")
    data = Path(shutil.copytree(finished[0], tmp_path / "mt_bench"))
    write_lines(data / "question.jsonl", [*questions()[:4], questions()[4] | {"turns": ["Say it.", "Again?"]}])
    whole = Whole(data, models, server)
    whole.config.benchmark.mt_bench.path = str(finished[0])  # type: ignore[union-attr]  # the same name, other content
    kept = shutil.move(finished[0], tmp_path / "away")
    try:
        shutil.copytree(data, finished[0])
        whole.run(place)
    finally:
        shutil.rmtree(finished[0])
        shutil.move(kept, finished[0])
    assert len(server.bodies) == 2 * 2 + 2 * 2
    assert all("Say it." in body["messages"][1]["content"] for body in server.bodies)


@pytest.mark.slow
def test_one_judge_judges_all(finished: tuple[Path, Path, dict[str, Any]], tmp_path: Path, models: list[Any]) -> None:
    place = tmp_path / "run"
    with JudgeServer(reply=reply) as server:
        Whole(finished[0], models, server, model=None).run(place, until="before")
        server.models = ["judge-2"]
        with pytest.raises(ValueError, match=r"judge: judge-1 judged before training, and judge-2 would now") as error:
            Whole(finished[0], models, server, model=None).run(place)
        assert len(server.bodies) == 10
        assert "\n" not in str(error.value)
        (place / KEPT).unlink()
        found = Whole(finished[0], models, server, model=None).run(place)
        assert len(server.bodies) == 10 + ALL
    assert found == finished[2]


def test_the_same_items_are_judged_before_and_after(finished: tuple[Path, Path, dict[str, Any]]) -> None:
    _, place, metrics = finished
    answered, judged = lines(place / ANSWERS), lines(place / JUDGMENTS)
    by_stage = {stage: [line["question_id"] for line in answered if line["stage"] == stage] for stage in STAGES}
    assert sorted(by_stage["before"]) == sorted(by_stage["after"]) == [81, 82, 83, 84, 85]
    items = {
        stage: sorted((line["question_id"], line["turn"]) for line in judged if line["stage"] == stage)
        for stage in (*STAGES, "before/after", "after/before")
    }
    assert list(items.values()) == [[(n, turn) for n in range(81, 86) for turn in (1, 2)]] * 4
    ratings = {(line["stage"], line["question_id"], line["turn"]): line["says"] for line in judged}
    gains = [sum(ratings["after", n, turn] - ratings["before", n, turn] for turn in (1, 2)) / 2 for n in range(81, 86)]
    moved = metrics["after"]["moved"]["mt_bench"]
    assert moved["overall"]["difference"] == pytest.approx(sum(gains) / 5)
    assert moved["overall"]["difference"] == pytest.approx(
        metrics["after"]["mt_bench"]["overall"] - metrics["before"]["mt_bench"]["overall"]
    )
    assert moved["overall"]["count"] == 5
    assert moved["categories"]["math"]["difference"] == pytest.approx((gains[1] + gains[4]) / 2)


STAGES = ("before", "after")
