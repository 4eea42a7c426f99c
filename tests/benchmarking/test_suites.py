"""Benchmarks of others around a whole run: before, after, killed between, continued."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from judge_server import JudgeServer, rates, rating_of

from kdlab.benchmarking.recipe import HarnessConfig, JudgeConfig, MTBenchConfig
from kdlab.data.dataset import DatasetConfig
from kdlab.models.student import CutConfig, StudentConfig
from kdlab.teachers.options import TeacherConfig
from kdlab.training.optimizers import AdamW
from kdlab.training.recipe import BenchmarkConfig, CheckpointConfig, TrainConfig, TrainerConfig
from kdlab.training.run import train

KEY = "sk-never-written-down"


def job(tmp_path: Path, **benchmark: Any) -> TrainConfig:
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": f"{i} " + "abcdefgh " * (1 + i % 8)}) + "\n" for i in range(12)))
    return TrainConfig(
        name="test",
        teacher=TeacherConfig(path="tiny:llama"),
        student=StudentConfig(from_teacher=CutConfig(layers=1)),
        dataset=DatasetConfig(path=str(texts), max_length=48, cache_dir=str(tmp_path / "cache"), heldout=2),
        optimizer=AdamW(lr=1e-2),
        trainer=TrainerConfig(
            max_steps=2,
            batch_size=4,
            precision="32",
            accelerator="cpu",
            progress=False,
            checkpoint=CheckpointConfig(best=False),
        ),
        benchmark=BenchmarkConfig(samples=0, speed=False, **benchmark),
    )


def start(config: TrainConfig, run: Path) -> dict[str, Any]:
    return train(config, output_dir=run, resolved=dataclasses.asdict(config), overrides=["name=test"])


def mt_bench(folder: Path, server: JudgeServer, **options: Any) -> MTBenchConfig:
    judge = JudgeConfig(url=server.url, model="judge-1", pause=0.01, attempts=1, concurrency=1)
    return MTBenchConfig(path=str(folder), max_new_tokens=4, judge=judge, **options)


def reply(body: dict[str, Any]) -> str:
    pair = "pairwise" in body["messages"][0]["content"]
    return f"[[{'ABC'[rating_of(body['messages'][1]['content']) % 3]}]]" if pair else rates(body)


@pytest.mark.slow
def test_a_run_is_judged_before_and_after_and_pays_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    run = tmp_path / "run"
    # teacher 10 and before 10 judgements; the judge goes away in the middle of those after training
    with JudgeServer(key=KEY, reply=reply, faults=[""] * 24, always=500) as server:
        config = job(tmp_path, mt_bench=mt_bench(folder, server, modes=["single", "pairwise"]))
        with pytest.raises(ValueError, match="same command"):
            start(config, run)
    failed = json.loads((run / "run.json").read_text())
    assert failed["status"] == "failed"
    assert KEY not in json.dumps(failed)
    assert failed["metrics"]["before"]["mt_bench"]["count"] == 10
    assert (run / "model" / "model.safetensors").is_file(), "the student is safe"
    with JudgeServer(key=KEY, reply=reply) as server:
        judge = dataclasses.replace(config.benchmark.mt_bench.judge, url=server.url)  # type: ignore[union-attr]
        suite = dataclasses.replace(config.benchmark.mt_bench, judge=judge)  # type: ignore[type-var]
        config = dataclasses.replace(config, benchmark=dataclasses.replace(config.benchmark, mt_bench=suite))
        record = start(config, run)
        assert len(server.bodies) == 6 + 20, "the rest of those after, and both orders of the comparison"
    metrics = record["metrics"]
    for stage in ("teacher", "before", "after"):
        found = metrics[stage]["mt_bench"]
        assert found["count"] == 10
        assert found["cost"] == {"requests": 10, "tokens_in": 1000, "tokens_out": 100, "price": None, "uncounted": 0}
        assert set(found["categories"]) == {"writing", "math", "stem"}
    assert "nll" in metrics["before"]
    pair = metrics["after"]["pairwise"]
    assert pair["wins"] + pair["losses"] + pair["ties"] == pair["count"] == 10
    gain = metrics["after"]["moved"]["mt_bench"]["overall"]
    assert gain["difference"] == pytest.approx(
        metrics["after"]["mt_bench"]["overall"] - metrics["before"]["mt_bench"]["overall"]
    )
    assert gain["count"] == 5
    assert record["benchmarks"]["mt_bench"]["questions"] == 5
    assert record["status"] == "finished"
    answers = [json.loads(line) for line in (run / "mt_bench" / "answers.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in answers] == ["teacher"] * 5 + ["before"] * 5 + ["after"] * 5
    by_stage = {stage: [line["turns"] for line in answers if line["stage"] == stage] for stage in ("before", "after")}
    assert by_stage["before"] != by_stage["after"], "it has learned something"
    kept = [file for file in run.rglob("*") if file.is_file()]
    assert not [file for file in kept if KEY.encode() in file.read_bytes()]


def test_the_teacher_may_be_left_out_and_training_is_as_without(folder: Path, tmp_path: Path) -> None:
    with JudgeServer() as server:
        suite = mt_bench(folder, server, teacher=False, questions=2)
        judged = start(job(tmp_path, mt_bench=suite), tmp_path / "judged")
        assert len(server.bodies) == 2 * 2 * 2
    plain = start(job(tmp_path), tmp_path / "plain")
    assert "mt_bench" not in judged["metrics"]["teacher"]
    assert judged["metrics"]["after"]["nll"] == plain["metrics"]["after"]["nll"]
    assert "benchmarks" not in plain
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("judged", "plain")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_a_run_is_examined_by_tasks_of_its_own(tmp_path: Path) -> None:
    from test_harness import write_task

    config = job(tmp_path, harness=HarnessConfig(tasks=["tiny_choice"], include_path=str(write_task(tmp_path / "t"))))
    record = start(config, tmp_path / "run")
    for stage in ("teacher", "before", "after"):
        assert 0 <= record["metrics"][stage]["harness"]["tiny_choice"]["acc"] <= 1
    gain = record["metrics"]["after"]["moved"]["harness"]["tiny_choice"]["acc"]
    accuracy = [record["metrics"][stage]["harness"]["tiny_choice"]["acc"] for stage in ("before", "after")]
    assert (gain["difference"], gain["count"]) == (pytest.approx(accuracy[1] - accuracy[0]), 6)
    assert record["benchmarks"]["harness"]["versions"] == {"tiny_choice": 3}
