"""What the check says of benchmarks of others: judgements to the last one, tokens and prices by hand, and time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kdlab.benchmarking.harness_requests import Requests
from kdlab.benchmarking.questions import NAMES
from kdlab.preflight.benchmark_lines import say_benchmarks
from kdlab.preflight.benchmarks import A_STEP, Suites, read_seconds, suites_seconds, write_seconds
from kdlab.preflight.duration import SLOWER, forward, head
from kdlab.preflight.findings import Findings, Section
from kdlab.preflight.machine import Speed
from kdlab.preflight.sketch import sketch
from kdlab.preflight.workload import Reading
from kdlab.training.recipe import TrainConfig

Look = Callable[..., Findings]
CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options of an MT-Bench of its full size, every prompt of 40 characters in all."""
    folder = tmp_path_factory.mktemp("mt_bench")
    asked = [{"question_id": 81 + i, "category": CATEGORIES[i // 10], "turns": ["0123456789"] * 2} for i in range(80)]
    names = [name for each in NAMES.values() for name in each]
    prompts = [{"name": name, "system_prompt": "s" * 10, "prompt_template": "u" * 30} for name in names]
    truths = [{"question_id": line["question_id"], "choices": [{"turns": ["", ""]}]} for line in asked]
    (folder / "reference_answer").mkdir()
    for name, rows in (
        ("question.jsonl", asked),
        ("judge_prompts.jsonl", prompts),
        ("reference_answer/gpt-4.jsonl", truths),
    ):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["benchmark=mt_bench", f"benchmark.mt_bench.path={folder}", "benchmark.mt_bench.max_new_tokens=100"]


PRICES = ["benchmark.mt_bench.judge.price_in=2.5", "benchmark.mt_bench.judge.price_out=10"]
BOTH = "benchmark.mt_bench.modes=[single,pairwise]"


def test_judgements_tokens_price_and_time(look: Look, bench: list[str]) -> None:
    found = look(*bench, BOTH, *PRICES, probe=True)
    assert found.status == 0, found.lines("failure", "unknown")
    numbers = found.numbers["benchmarks"]["mt_bench"]
    assert numbers["judgements"] == {"teacher": 160, "before": 160, "after": 160, "pairs": 320}
    assert numbers["answer_tokens"] == 3 * 80 * 2 * 100
    # 40 characters a prompt; one answer for the first turn and two for the second, of pairs twice that
    assert numbers["tokens_in"] == 800 * 40 // 4 + (3 * 80 * 3 + 2 * 80 * 6) * 100 == 176_000
    assert numbers["tokens_out"] == 800 * 2048
    assert numbers["price"] == pytest.approx((176_000 * 2.5 + 800 * 2048 * 10) / 1e6)
    [section] = [section for section in found.sections if section.title == "benchmarks"]
    assert [line.text for line in section.lines] == [
        "MT-Bench: 80 questions, two turns; teacher, before and after write at most 48,000 tokens in all",
        "800 judgements (teacher 160, before 160, after 160, pairs 320); one that cannot be read is asked for up to 3 "
        "times",
        "the judge reads at most 176,000 tokens and writes 1,638,400, price at most 16.82, with every answer and "
        "judgement as long as it may be, each asked for once (questions and prompts at 4 characters a token)",
        "judging takes about 33.3 minutes if a judgement takes 10 s, 4 at a time",
    ]
    told = found.numbers["time"]["benchmark_seconds"]
    assert list(told) == ["MT-Bench's answers", "MT-Bench's judge"]
    assert told["MT-Bench's judge"] == 10 * 800 / 4
    assert told["MT-Bench's answers"] > 0
    assert found.numbers["time"]["evaluate_seconds"] > sum(told.values())
    assert any(
        line.text.startswith("of that the benchmarks, with answers as long as they may be: MT-Bench")
        for line in found.lines("note")
    )
    assert "benchmarks" not in look().numbers


def test_a_local_judge_is_sized_and_timed(config: Callable[..., TrainConfig], bench: list[str]) -> None:
    told = config(*bench, *(f"benchmark.mt_bench.judge.{option}" for option in ("kind=local", "path=tiny:gpt2")))
    models, section = sketch(told, torch.device("cpu")), Section(title="benchmarks")
    found = say_benchmarks(section, told, models, torch.device("cpu"))
    assert section.lines[-1].text.startswith("judge: tiny:gpt2, ")
    assert found.judge is not None
    speed = Speed(products=float("inf"), copied=1000.0, softmaxes=float("inf"))
    seconds = suites_seconds(found, told, models, speed=speed, teacher_speed=speed)
    assert seconds["MT-Bench's judge"] == pytest.approx(480 / 4 * 2048 * (A_STEP + found.judge.size.bytes / 500))
    place = Path(bench[1].partition("=")[2])
    (place / "question.jsonl").rename(place / "away")
    (place / "question.jsonl").write_text("{}\n")
    try:
        with pytest.raises(ValueError, match=r"question.jsonl, line 1: no question of 2 turns"):
            say_benchmarks(section, told, models, torch.device("cpu"))
    finally:
        (place / "away").rename(place / "question.jsonl")


def test_seconds_by_hand(config: Callable[..., TrainConfig], bench: list[str]) -> None:
    told = config(*bench, "benchmark.harness.tasks=[any]")
    models = sketch(told, torch.device("cpu"))
    assert models.teacher is not None
    endless = float("inf")
    speed = Speed(products=1e6, copied=endless, softmaxes=endless)
    requests = Requests(examples=10, requests=20, read=400, written=300, steps=50)
    found = suites_seconds(
        Suites(asked=None, judge=None, requests={"any": requests}), told, models, speed=speed, teacher_speed=speed
    )
    reads = Reading(positions=400, rows=400)
    sides = [models.student, models.student, models.teacher]
    read = sum(forward(side, reads, width=20) + head(side, reads) for side in sides)
    write = sum(50 * 2 * side.size.parameters * 8 for side in sides)
    assert found == {"lm-evaluation-harness": pytest.approx(SLOWER * (read + write) / 1e6 + 3 * 50 * A_STEP)}
    slow = Speed(products=endless, copied=1000.0, softmaxes=endless)
    assert write_seconds(models.student, 8, slow) == A_STEP + models.student.size.bytes / 500
    assert read_seconds(models.student, 0, 1, speed) == 0


@pytest.mark.slow
def test_tasks_are_counted_as_they_are_asked(look: Look, tmp_path: Path) -> None:
    rows = [{"q": f"What is {i}?", "choices": ["yes", "no, never"], "answer": i % 2} for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path / 'rows.jsonl'}}}}}\n"
    common += 'test_split: test\ndoc_to_text: "{{q}}"\n'
    kinds: dict[str, str] = {
        "choice": 'output_type: multiple_choice\ndoc_to_choice: "{{choices}}"\ndoc_to_target: "{{answer}}"\n',
        "write": "output_type: generate_until\ngeneration_kwargs: {until: [x], max_gen_toks: 7}\n"
        'doc_to_target: "{{choices[answer]}}"\nmetric_list: [{metric: exact_match}]\n',
    }
    for name, more in kinds.items():
        (tmp_path / f"{name}.yaml").write_text(f"task: {name}\n{common}{more}")
    options = ["benchmark=harness", "benchmark.harness.tasks=[choice,write]"]
    found = look(*options, f"benchmark.harness.include_path={tmp_path}", probe=True)
    assert found.status == 0, found.lines("failure", "unknown")
    told: dict[str, Any] = found.numbers["benchmarks"]["harness"]
    assert (told["choice"]["examples"], told["choice"]["requests"], told["choice"]["written"]) == (40, 80, 0)
    characters = sum(len(f"What is {i}?") for i in range(32))
    assert told["write"]["read"] == pytest.approx(characters * 40 / 32, rel=0.15), "a byte a token"
    assert (told["write"]["requests"], told["write"]["written"], told["write"]["steps"]) == (40, 280, 5 * 7)
    assert found.numbers["time"]["benchmark_seconds"]["lm-evaluation-harness"] > 0
    limited = look(*options, f"benchmark.harness.include_path={tmp_path}", "benchmark.harness.limit=3")
    assert limited.numbers["benchmarks"]["harness"]["choice"]["requests"] == 6
    gone = look("benchmark=harness", "benchmark.harness.tasks=[chioce]", f"benchmark.harness.include_path={tmp_path}")
    assert gone.status == 1
    assert "no such task; did you mean choice" in gone.lines("failure")[0].text
