from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from judge_server import JudgeServer, rating_of

from kdlab.benchmarking.jobs import single_jobs
from kdlab.benchmarking.mt_bench import MTBench
from kdlab.benchmarking.recipe import JudgeConfig, MTBenchConfig
from kdlab.benchmarking.writing import Answerer
from kdlab.models.loading import load_language_model, load_tokenizer
from kdlab.training.generate import write_answers

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> Any:
    return load_language_model("tiny:llama")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer("tiny:llama")


def answerer(model: Any, tokenizer: Any, identity: str = "w") -> Answerer:
    return Answerer(model, tokenizer, identity=identity, template=None, device=CPU)


def opened(folder: Path, run: Path, **options: Any) -> MTBench:
    options = {"path": str(folder), "max_new_tokens": 5, "batch_size": 2} | options
    return MTBench(MTBenchConfig(**options), run, device=CPU, progress=False)


def test_the_second_turn_follows_on_the_first_answer(folder: Path, tmp_path: Path, model: Any, tokenizer: Any) -> None:
    bench, asking = opened(folder, tmp_path), answerer(model, tokenizer)
    given = bench.answer("before", asking)
    assert list(given.turns) == [81, 82, 83, 84, 85]
    first, second = given.turns[83]
    talk = [
        {"role": "user", "content": "Say 83."},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "And {twice} 83?"},
    ]
    prompts = [asking.prompt(talk[:1]), asking.prompt(talk)]
    assert tokenizer.decode(prompts[0]) == "user: Say 83.\nassistant: "  # its own chat template
    assert tokenizer.decode(prompts[1]).startswith(f"user: Say 83.\nassistant: {first}")
    assert tokenizer.decode(prompts[1]).endswith("user: And {twice} 83?\nassistant: ")
    written = [write_answers(model, tokenizer, [prompt], max_new_tokens=5, device=CPU)[0].strip() for prompt in prompts]
    assert written == [first, second]
    assert given.limit_reached == 10


def test_answers_are_written_once(
    folder: Path, tmp_path: Path, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = opened(folder, tmp_path / "whole").answer("before", answerer(model, tokenizer))
    bench = opened(folder, tmp_path / "cut")
    add, added = bench.answers.add, []

    def dying(lines: list[dict[str, Any]]) -> None:
        if added:
            raise KeyboardInterrupt
        added.extend(lines)
        add(lines)

    monkeypatch.setattr(bench.answers, "add", dying)
    with pytest.raises(KeyboardInterrupt):
        bench.answer("before", answerer(model, tokenizer))
    assert len(added) == 2
    again = opened(folder, tmp_path / "cut")
    assert again.answer("before", answerer(model, tokenizer)) == whole
    assert len(again.answers.path.read_text().splitlines()) == 5
    opened(folder, tmp_path / "cut").answer("before", answerer(model, tokenizer))
    assert len(again.answers.path.read_text().splitlines()) == 5
    again.answer("before", answerer(model, tokenizer, identity="other weights"))
    assert len(again.answers.path.read_text().splitlines()) == 10


def test_a_model_is_rated_and_compared_with_itself(folder: Path, tmp_path: Path, model: Any, tokenizer: Any) -> None:
    def reply(body: dict[str, Any]) -> str:
        system, user = (message["content"] for message in body["messages"])
        return "[[A]]" if "pairwise" in system else f"[[{rating_of(user)}]]"

    with JudgeServer(reply=reply) as server:
        judge = JudgeConfig(url=server.url, price_in=1.0, price_out=1.0)
        bench = opened(folder, tmp_path, modes=["single", "pairwise"], judge=judge)
        given = bench.answer("before", answerer(model, tokenizer))
        found = bench.rate("before", given)
        told = {body["messages"][1]["content"] for body in server.bodies}
        assert found["overall"] == pytest.approx(sum(map(rating_of, told)) / 10)
        assert (found["count"], found["unparsed"], found["limit_reached"], found["cut"]) == (10, 0, 10, 0)
        after = bench.answer("after", answerer(model, tokenizer, identity="same weights"))
        pair = bench.compare(given, after)
    assert (pair["ties"], pair["order_decided"], pair["wins"], pair["losses"]) == (10, 10, 0, 0)
    assert pair["cost"]["requests"] == 20
    jobs = single_jobs(bench.bench, given.turns, stage="before", judge=bench.judge.identity)
    first, second = ({job.question.id: float(rating_of(job.user)) for job in jobs if job.turn == n} for n in (1, 2))
    assert bench.ratings("before", given) == {str(number): [first[number], second[number]] for number in first}
    assert bench.about()["judge"]["model"] == "judge-1"


def test_prompts_longer_than_the_model_reads_are_counted(
    folder: Path, tmp_path: Path, tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    short = load_language_model("tiny:llama")
    short.config.max_position_embeddings = 45
    given = opened(folder, tmp_path).answer("before", answerer(short, tokenizer))
    assert given.cut == 5, "the second turn of each"
    assert "prompts are cut" in capsys.readouterr().err


def test_an_encoder_decoder_reads_the_talk_as_text(folder: Path, tmp_path: Path) -> None:
    model, tokenizer = load_language_model("tiny:t5"), load_tokenizer("tiny:t5")
    asking = answerer(model, tokenizer)
    talk = [{"role": role, "content": text} for role, text in (("user", "a"), ("assistant", "b"), ("user", "c"))]
    assert tokenizer.decode(asking.prompt(talk), skip_special_tokens=True) == "user: a\nassistant: b\nuser: c"
    assert len(opened(folder, tmp_path).answer("before", asking).turns) == 5
