"""Written answers: which prompts, what is kept, and that a killed run judges the same."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from kdlab.data.dataset import DatasetConfig
from kdlab.data.store import Example
from kdlab.metrics.generation import score
from kdlab.models.tiny import byte_tokenizer, tiny_model
from kdlab.training.answers import GENERATIONS, begin, judge, keep, questions, write
from kdlab.training.generate import write_answers
from kdlab.training.recipe import BenchmarkConfig, CheckpointConfig, GenerationConfig

CPU = torch.device("cpu")


def example(text: str, answers: list[tuple[int, int]], row: int = 0) -> Example:
    ids = np.array(byte_tokenizer()(text)["input_ids"], np.int32)
    supervised = np.zeros(len(ids), bool)
    for first, last in answers:
        supervised[first:last] = True
    return Example(input_ids=ids, supervised=supervised, row=row)


CHAT = example("ask: one two <eos>ask: three four <eos>", [(5, 14), (19, 31)], row=7)
PLAIN = example("plain text", [(1, 10)])


def test_a_question_is_the_first_turn_and_plain_text_asks_none():
    (found,) = questions([PLAIN, CHAT, PLAIN], byte_tokenizer(), examples=None)
    assert (found.example, found.row, found.reference) == (1, 7, "one two")
    assert byte_tokenizer().decode(found.prompt) == "ask: "


def test_an_encoder_reads_the_prompt():
    source, target = (np.array(byte_tokenizer()(text)["input_ids"], np.int32) for text in ("read me", "say this"))
    read = Example(input_ids=target, supervised=np.ones(len(target), bool), source_ids=source)
    (found,) = questions([read], byte_tokenizer(), examples=None)
    assert (found.prompt, found.teacher_prompt, found.reference) == (source.tolist(), source.tolist(), "say this")


def test_a_teacher_with_its_own_tokenizer_gets_its_own_prompt():
    theirs = example("question: one <eos>", [(10, 15)])
    (found,) = questions([replace(CHAT, teacher=theirs)], byte_tokenizer(), examples=None)
    assert byte_tokenizer().decode(found.teacher_prompt) == "question: "
    assert found.reference == "one two"


def test_the_first_examples_are_asked_in_their_order():
    store = [example(f"ask: answer {i}", [(5, 13)], row=i) for i in range(5)]
    assert [question.reference for question in questions(store, byte_tokenizer(), examples=2)] == [
        "answer 0",
        "answer 1",
    ]
    assert len(questions(store, byte_tokenizer(), examples=None)) == 5


def test_data_without_prompts_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"benchmark\.generation: no held-out example has a prompt") as caught:
        questions([PLAIN], byte_tokenizer(), examples=None)
    assert "\n" not in str(caught.value)


def test_batches_of_any_size_write_the_same():
    model, tokenizer = tiny_model("llama"), byte_tokenizer()
    prompts = [[10, 20, 30, 40, 50], [60, 70], [80, 90, 100]]
    expected = [
        write_answers(model, tokenizer, [prompt], max_new_tokens=5, device=CPU)[0].strip() for prompt in prompts
    ]
    for size in (1, 2, 3):
        config = GenerationConfig(max_new_tokens=5, batch_size=size)
        assert write(config, model, tokenizer, prompts, device=CPU) == expected


def test_scores_and_texts_lie_side_by_side(tmp_path):
    pytest.importorskip("rouge_score")
    asked = questions([CHAT], byte_tokenizer(), examples=1)
    answers = begin(asked, byte_tokenizer())
    config = GenerationConfig(metrics=["rouge"])
    assert judge(config, answers, "before", ["three"])["rougeL"] == 0
    metrics = judge(config, answers, "after", ["one two"])
    assert (metrics["examples"], metrics["rougeL"], metrics["words"]) == (1, pytest.approx(100), 2)
    keep(answers, tmp_path)
    (line,) = [json.loads(line) for line in (tmp_path / GENERATIONS).read_text().splitlines()]
    assert (line["prompt"], line["reference"], line["teacher"]) == ("ask: ", "one two", None)
    assert (line["before"], line["after"]) == ("three", "one two")
    assert line["scores"]["after"]["rougeL"] == pytest.approx(100)


@pytest.fixture
def asking(job, tmp_path):
    rows = [{"prompt": f"say {i}", "completion": "abc " * (1 + i % 3)} for i in range(30)]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = DatasetConfig(
        path=str(tmp_path / "asked.jsonl"), max_length=64, heldout=6, cache_dir=str(tmp_path / "cache")
    )
    generation = GenerationConfig(examples=4, max_new_tokens=6, batch_size=3, metrics=["rouge", "chrf"])
    return lambda **options: job(
        dataset=dataset,
        benchmark=BenchmarkConfig(samples=1, max_new_tokens=4, speed=False, generation=generation),
        **options,
    )


def test_a_run_judges_teacher_and_student_before_and_after(asking, start, tmp_path, capsys):
    pytest.importorskip("rouge_score")
    pytest.importorskip("sacrebleu")
    record = start(asking(), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / GENERATIONS).read_text().splitlines()]
    assert len(lines) == 4
    assert record["files"]["generations"] == GENERATIONS
    for who in ("teacher", "before", "after"):
        found = record["metrics"][who]["generation"]
        assert set(found) == {"examples", "rouge1", "rouge2", "rougeL", "chrf", "words"}
        texts, references = [line[who] for line in lines], [line["reference"] for line in lines]
        assert found["chrf"] == score(texts, references, metrics=["chrf"]).corpus["chrf"]
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == record
    assert "chrF" in capsys.readouterr().out


def test_another_seed_answers_the_same_prompts(asking, start, tmp_path):
    pytest.importorskip("rouge_score")
    pytest.importorskip("sacrebleu")
    for seed in (0, 1):
        start(asking(seed=seed, max_steps=1), tmp_path / str(seed))
    prompts = [
        [json.loads(line)["prompt"] for line in (tmp_path / str(seed) / GENERATIONS).read_text().splitlines()]
        for seed in (0, 1)
    ]
    assert prompts[0] == prompts[1]


def test_a_killed_run_continues_with_the_same_answers(asking, start, kill_after, tmp_path):
    pytest.importorskip("rouge_score")
    pytest.importorskip("sacrebleu")
    options = {"checkpoint": CheckpointConfig(every_steps=2, best=False)}
    whole = start(asking(**options), tmp_path / "whole")
    with kill_after(6):
        start(asking(**options), tmp_path / "killed")
    record = start(asking(**options), tmp_path / "killed")
    assert record["resumed"] == 1
    assert record["metrics"] == whole["metrics"]
    texts = [(tmp_path / name / GENERATIONS).read_text() for name in ("whole", "killed")]
    assert texts[0] == texts[1]


def test_answers_are_judged_by_their_number_too(tmp_path, capsys):
    texts = [("ask: 1 + 1 #### 2", 11), ("ask: 2 + 2 #### 4", 11), ("ask: what then", 10)]
    asked = questions(
        [example(text, [(at, len(text))], row=i) for i, (text, at) in enumerate(texts)], byte_tokenizer(), examples=None
    )
    config = GenerationConfig(metrics=["accuracy"], rules="s1")
    answers = begin(asked, byte_tokenizer(), metrics=config.metrics)
    assert "1 of 3 held-out references have no number and are left out" in capsys.readouterr().err
    metrics = judge(config, answers, "after", ["It is 2.", "who knows", "5"])
    assert metrics["accuracy"] == {"correct": 1, "count": 2, "resolved": 1, "left_out": 1, "rules": "s1"}
    assert "share" not in json.dumps(metrics)
    assert answers[0]["scores"]["after"] == {"accuracy": {"value": "2", "rule": "first_line", "correct": True}}
    with pytest.raises(ValueError, match=r"benchmark\.generation\.metrics=\[accuracy\]: no held-out reference"):
        begin(asked[2:], byte_tokenizer(), metrics=["accuracy"])
    with pytest.raises(ValueError, match=r"benchmark\.generation\.rules=s2: must be one of s1, boxed_last"):
        GenerationConfig(rules="s2")
