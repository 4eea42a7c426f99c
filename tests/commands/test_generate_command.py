"""kdlab generate: what a model writes becomes data that `kdlab train` reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdlab.answering.answers_file import Answer
from kdlab.answering.generate import choose
from kdlab.cli import main
from kdlab.training import generate

COMMAND = ["generate", "model.path=tiny:llama", "dataset.path=asked.jsonl", "writing.accelerator=cpu"]
ROWS = [{"question": f"{'so ' * i}{i} + {i}?", "answer": f"#### {2 * i}", "system": f"You add {i}."} for i in range(12)]
WRITTEN = ("It is {}.", "It is 7777.", "It is {}.", "never ends")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDLAB_DEBUG", raising=False)
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose four draws are a right answer, a wrong one, the right one again, and one without an end."""

    def decode(tokenizer: object, ids: list[int], *, ends: set[int], prompt_tokens: int) -> generate.Written:
        count[0] += 1
        row, draw = divmod(order.index(prompt_tokens) * 4 + count[0] % 4, 4)
        stopped = "limit" if draw == 3 else "end"
        text = f" {WRITTEN[draw].format(2 * row)}"
        return generate.Written(text=text, prompt_tokens=prompt_tokens, tokens=len(ids), stopped=stopped)

    count, order = [-1], [len(f"system: {r['system']}\nuser: {r['question']}\nassistant: ") for r in ROWS]
    monkeypatch.setattr(generate, "_read", decode)


def data(name: str = "generate") -> list[dict[str, object]]:
    (file,) = Path("multirun", name).glob("*/data.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def answer(row: int, text: str, *, stopped: str = "end", correct: bool | None = True) -> Answer:
    return {"row": row, "draw": 0, "question": f"q{row}", "text": text, "stopped": stopped, "correct": correct}


def test_what_is_kept_and_why_the_rest_is_not() -> None:
    answers = [
        answer(0, "right"),
        answer(0, " right "),
        answer(1, "right"),
        answer(1, "cut", stopped="limit"),
        answer(1, " \n"),
        answer(2, "wrong", correct=False),
        answer(3, "unknown", correct=None),
    ]
    kept, left_out = choose(answers, correct_only=False)
    assert [a["text"] for a in kept] == ["right", "right", "wrong", "unknown"]
    assert left_out == {
        "that repeat an answer to the same question": 1,
        "that reached writing.max_new_tokens": 1,
        "that are empty": 1,
    }
    kept, left_out = choose(answers, correct_only=True)
    assert [a["row"] for a in kept] == [0, 1]
    assert left_out["that do not come to the reference's number"] == 1
    assert left_out["whose reference comes to no number"] == 1
    assert sum(left_out.values()) + len(kept) == len(answers)


@pytest.mark.slow
def test_a_student_is_trained_on_what_a_teacher_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    prompt = "prompt.teacher='You are a teacher. {question}'"
    words = [*COMMAND, "name=taught", "writing=sampled", "writing.draws=2", "writing.max_new_tokens=80", prompt]
    words.append("writing.batch_size=24")
    assert main(words) == 0
    assert "texts kept; not" in capsys.readouterr().out
    rows = data("taught")
    assert rows
    asked = {row["question"]: row["system"] for row in ROWS}
    for row in rows:
        assert asked[str(row["question"])] == row["system"], "as the dataset has it, not as the teacher read it"
        assert row["stopped"] == "end"
        assert set(row) == {"system", "question", "answer", "row", "draw", "tokens", "stopped", "correct"}
    (file,) = Path("multirun/taught").glob("*/data.jsonl")
    record = json.loads(file.with_name("generation.json").read_text())
    assert record["kept"] == len(rows) == record["answer_count"] - sum(record["left_out"].values())
    steps = ["trainer.max_steps=1", "dataset.heldout=1", "benchmark=quick", "dataset.cache_dir=cache"]
    steps += ["dataset.max_length=256"]
    quoted = f"dataset.path='{file}'"
    assert main(["train", "experiment=smoke", "name=student", "dataset=local", quoted, *steps]) == 0
    assert "format question_answer" in capsys.readouterr().out
    (run,) = Path("multirun/student").glob("*/run.json")
    assert json.loads(run.read_text())["data"]["reading"]["rows"] == len(rows)


@pytest.mark.slow
@pytest.mark.usefixtures("scripted")
def test_only_right_answers_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*COMMAND, "writing=sampled", "writing.max_new_tokens=2", "keep=correct", "dataset.num_samples=2"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "4 of 8 come to the reference's number" in out
    assert "2 of 8 texts kept" in out
    for why in ("2 that do not come to", "2 that repeat an answer", "2 that reached writing.max_new_tokens"):
        assert why in out
    assert [(row["answer"], row["correct"]) for row in data()] == [("It is 0.", True), ("It is 2.", True)]
    assert main(words) == 0
    assert "all answers are written" in capsys.readouterr().out


def test_nothing_to_keep_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "writing.max_new_tokens=1"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "data.jsonl: none of 12 texts could be kept" in line
