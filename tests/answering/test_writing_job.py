"""A whole job: killed anywhere it ends in the same bytes, and what was changed in between is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdlab.answering.answers_file import ANSWERS, AnswersFile
from kdlab.answering.recipe import GenerateConfig, ModelConfig
from kdlab.data.dataset import DatasetConfig
from kdlab.models.tiny import byte_tokenizer, save_tiny, tiny_model
from kdlab.text.prompts import PromptConfig

Job = Callable[..., Any]
Start = Callable[..., dict[str, Any]]


class Killed(BaseException):
    """The process ends here, as far as the job can tell."""


@pytest.fixture
def kill_after(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`kill_after(2, tear=5)`: the process dies behind the second batch, whose last bytes did not reach the disk."""

    def arm(last: int, *, tear: int = 0) -> None:
        append, count = AnswersFile.append, [0]

        def dying(self: AnswersFile, answers: Any) -> None:
            append(self, answers)
            count[0] += 1
            if count[0] == last:
                if tear:
                    self.path.write_bytes(self.path.read_bytes()[:-tear])
                monkeypatch.setattr(AnswersFile, "append", append)
                raise Killed

        monkeypatch.setattr(AnswersFile, "append", dying)

    return arm


def texts(folder: Path) -> dict[tuple[int, int], str]:
    return {(a["row"], a["draw"]): a["text"] for a in map(json.loads, (folder / ANSWERS).read_text().splitlines())}


@pytest.mark.parametrize(("kind", "draws"), [("llama", 2), pytest.param("t5", 0, marks=pytest.mark.slow)])
def test_a_killed_job_ends_in_the_bytes_of_an_unbroken_one(
    job: Job, start: Start, kill_after: Callable[..., None], tmp_path: Path, kind: str, draws: int
) -> None:
    config = job(model=ModelConfig(path=f"tiny:{kind}"), draws=draws)
    whole = start(config, tmp_path / "whole")
    for last, tear in ((1, 5), (1, 400)):
        folder = tmp_path / f"killed-{last}-{tear}"
        for _ in range(2):
            kill_after(last, tear=tear)
            with pytest.raises(Killed):
                start(config, folder)
            assert json.loads((folder / "evaluation.json").read_text())["status"] == "running"
        record = start(config, folder)
        assert (folder / ANSWERS).read_bytes() == (tmp_path / "whole" / ANSWERS).read_bytes()
        assert record["resumed"] == 2
        for name in ("accuracy", "tokens", "limit_reached", "answer_count", "by_rule", "model", "data"):
            assert record[name] == whole[name]
    assert len(texts(tmp_path / "whole")) == 7 * max(1, draws)


def test_drawn_texts_are_the_same_in_any_batch(job: Job, start: Start, tmp_path: Path) -> None:
    found = []
    for size, draws, examples in ((4, 3, None), (16, 3, None), (4, 1, 5)):
        folder = tmp_path / f"{size}-{draws}-{examples}"
        start(job(batch_size=size, draws=draws, examples=examples, temperature=0.8, top_p=0.9), folder)
        found.append(texts(folder))
    assert found[0] == found[1]
    assert len(set(found[0].values())) == 21
    assert found[0].items() > found[2].items()
    assert len(found[2]) == 5
    start(job(draws=3, seed=1, temperature=0.8, top_p=0.9), tmp_path / "seed")
    assert not set(texts(tmp_path / "seed").values()) & set(found[0].values())


@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5", "bart"])
def test_greedy_is_what_transformers_calls_greedy(job: Job, start: Start, tmp_path: Path, kind: str) -> None:
    import torch
    from transformers import GenerationConfig

    start(job(model=ModelConfig(path=f"tiny:{kind}")), tmp_path / "job")
    model, tokenizer = tiny_model(kind), byte_tokenizer()
    model.generation_config = GenerationConfig()
    answers = AnswersFile(tmp_path / "job").read()
    for answer in answers:
        messages = [{"role": "user", "content": answer["question"]}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids_BT = torch.tensor([tokenizer(answer["question"] if kind in ("t5", "bart") else text)["input_ids"]])
        start_id = {"decoder_start_token_id": model.config.decoder_start_token_id} if kind in ("t5", "bart") else {}
        written = model.generate(ids_BT, do_sample=False, max_new_tokens=6, pad_token_id=0, eos_token_id=2, **start_id)
        own = written[0, 1 if start_id else ids_BT.shape[1] :]
        assert answer["text"] == tokenizer.decode(own, skip_special_tokens=True)
        assert answer["prompt_tokens"] == ids_BT.shape[1]
        assert answer["tokens"] == len(own)
        assert answer["stopped"] == ("end" if int(own[-1]) == 2 else "limit")


def test_the_record_says_what_was_done(
    job: Job, start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = start(job(draws=2), tmp_path / "job")
    out = capsys.readouterr().out
    answers = AnswersFile(tmp_path / "job").read()
    assert json.loads((tmp_path / "job" / "evaluation.json").read_text()) == record
    assert record["accuracy"]["count"] == record["answer_count"] == 14
    assert record["accuracy"]["correct"] == sum(answer["correct"] for answer in answers)
    assert record["tokens"]["written"] == sum(answer["tokens"] for answer in answers)
    limit = sum(answer["stopped"] == "limit" for answer in answers)
    assert record["limit_reached"] == limit
    assert f"{limit} of 14 texts reached writing.max_new_tokens=6" in out
    assert sum(counts["count"] for counts in record["by_rule"].values()) == 14
    assert record["model"]["parameters"] == tiny_model("llama").num_parameters()
    assert "95 % interval" in out


def test_a_finished_job_says_so_and_loads_no_model(
    job: Job, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = start(job(), tmp_path / "job")
    monkeypatch.setattr("kdlab.answering.job.load_language_model", None)
    assert start(job(progress=True), tmp_path / "job") == first | {
        "config": first["config"] | {"writing": first["config"]["writing"] | {"progress": True}}
    }
    assert "all answers are written; delete the folder" in capsys.readouterr().out


def test_changes_between_two_starts_are_refused(
    job: Job, start: Start, kill_after: Callable[..., None], tmp_path: Path
) -> None:
    model, folder = save_tiny("llama", tmp_path / "model"), tmp_path / "job"
    here = ModelConfig(path=str(model))
    kill_after(1)
    with pytest.raises(Killed):
        start(job(model=here), folder)
    with pytest.raises(ValueError, match=r"writing\.batch_size=2 \(was 3\): what is in"):
        start(job(model=here, batch_size=2), folder)
    save_tiny("llama", model, seed=1)
    with pytest.raises(ValueError, match=r"^model \(weights\)="):
        start(job(model=here), folder)
    save_tiny("llama", model)
    asked = Path(job().dataset.path)
    rows = asked.read_text()
    asked.write_text(rows.replace("It is", "It was"))
    with pytest.raises(ValueError, match=r"^dataset \(questions\)="):
        start(job(model=here), folder)
    asked.write_text(rows)
    (folder / "evaluation.json").rename(folder / "elsewhere.json")
    with pytest.raises(ValueError, match=r"evaluation\.json beside it is gone"):
        start(job(model=here), folder)
    (folder / "elsewhere.json").rename(folder / "evaluation.json")
    assert start(job(model=here), folder)["resumed"] == 1


def test_references_without_a_number_are_left_out(
    job: Job, start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mixed.jsonl"
    rows = [{"question": "a?", "answer": "#### 1"}, {"question": "b?", "answer": "it depends"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    record = start(job(dataset=DatasetConfig(path=str(file))), tmp_path / "mixed")
    assert (record["accuracy"]["count"], record["left_out"]) == (1, 1)
    assert "1 of 2 references come to no number" in capsys.readouterr().out
    file.write_text(json.dumps(rows[1]) + "\n")
    with pytest.raises(ValueError, match="none of its answers comes to a number, which kdlab evaluate needs"):
        start(job(dataset=DatasetConfig(path=str(file))), tmp_path / "none")
    with pytest.raises(ValueError, match="which keep=correct needs"):
        start(job(GenerateConfig, keep="correct", dataset=DatasetConfig(path=str(file))), tmp_path / "none")


def test_who_reads_which_wording(job: Job, start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompt = PromptConfig(name="told", student="Q: {question}", teacher="{question} It is {answer}.")
    evaluated, generated = tmp_path / "e", tmp_path / "g"
    start(job(prompt=prompt), evaluated)
    assert "shown the reference" not in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"data\.jsonl: none of 7 texts could be kept"):
        start(job(GenerateConfig, prompt=prompt, max_new_tokens=1), generated)
    assert "prompt=told: the model is shown the reference answer" in capsys.readouterr().err
    plain = AnswersFile(evaluated).read()
    tokens = {a["row"]: len(f"user: Q: {a['question']}\nassistant: ".encode()) for a in plain}
    assert {a["row"]: a["prompt_tokens"] for a in plain} == tokens
    shown = AnswersFile(generated).read()[0]
    assert shown["prompt_tokens"] == len(f"user: {shown['question']} It is {shown['reference']}.\nassistant: ")
