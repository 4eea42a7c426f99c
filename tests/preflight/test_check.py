"""The whole check: what it says of runs that would work, and of those that would not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kdlab.models.pair import check_pair
from kdlab.models.size import measure
from kdlab.models.student import build_student
from kdlab.preflight.findings import Findings
from kdlab.preflight.sketch import sketch
from kdlab.teachers.live import load_teacher
from kdlab.training.recipe import TrainConfig

Look = Callable[..., Findings]
Config = Callable[..., TrainConfig]

STUDENTS: dict[str, list[str]] = {
    "cut": [],
    "pretrained": ["student=pretrained", "student.path=tiny:gpt2"],
    "lora": ["student.lora.r=4"],
    "narrow": ["student.from_teacher.ffn=64"],
    "by importance": ["student.from_teacher.pick=importance"],
    "scratch": ["student=scratch", "student.architecture.model_type=llama", "++student.architecture.hidden_size=32"],
    "seq2seq": ["teacher.path=tiny:t5"],
}
STUDENTS["scratch"] += ["++student.architecture.num_hidden_layers=1", "++student.architecture.num_attention_heads=4"]


@pytest.mark.parametrize("name", STUDENTS)
def test_sizes_are_those_of_the_models_that_are_built(config: Config, name: str) -> None:
    told = config(*STUDENTS[name])
    check_pair(told.student, told.teacher, pairing=told.loss.pairing)
    teacher = load_teacher(told.teacher)
    student = build_student(told.student, teacher.model, teacher.tokenizer, seed=0)
    models = sketch(told, torch.device("cpu"))
    assert models.teacher is not None
    assert models.teacher.size == measure(teacher.model)
    assert models.student.size == measure(student.model)


def test_a_run_that_works(look: Look) -> None:
    found = look(probe=True)
    assert found.status == 0
    assert not found.lines("failure", "unknown")
    assert [section.title for section in found.sections] == ["models", "tokenizers", "data", "memory", "time", "disk"]
    numbers = json.loads(json.dumps(found.as_dict()))
    assert numbers["models"]["teacher"]["parameters"] == 90624
    assert numbers["memory"]["peak_bytes"] == max(numbers["memory"]["moments"].values())
    assert numbers["memory"]["parts"]["optimiser state"] > 8 * numbers["models"]["student"]["trainable_parameters"]
    assert numbers["time"]["steps"] == 8
    assert 0 < numbers["time"]["seconds_low"] < numbers["time"]["seconds"] < numbers["time"]["seconds_high"]
    assert numbers["disk"]["output_bytes"] > 3 * numbers["disk"]["checkpoint_bytes"]
    assert numbers["data"]["ends"] == {"examples": 11, "with_end": 11}


def test_the_example_shows_what_is_supervised(look: Look) -> None:
    text = look().numbers["data"]["example"]["text"]
    assert text.startswith("user: question")
    assert text.split("assistant: ")[1].strip().startswith("⟦answer")
    assert text.strip().endswith("日本<eos>⟧")


def test_an_encoder_decoder_has_source_and_target(look: Look) -> None:
    found = look("teacher.path=tiny:t5")
    assert found.status == 0
    example = found.numbers["data"]["example"]
    assert "⟦" not in example["source"]
    assert example["target"].startswith("⟦answer")
    assert not any("formula" in line.text for line in found.lines("note"))


def test_two_tokenizers_show_both_sides(look: Look) -> None:
    found = look("loss=uld", "student=pretrained", "student.path=tiny:gpt2")
    assert found.status == 0
    assert found.numbers["tokenizers"]["matched"] >= 256
    cut = [line.text for line in found.lines("note") if line.text.startswith("spans of the")]
    assert len(cut) == 2
    assert all("a|n|s|w|e|r" in line for line in cut)


def test_labels_alone(look: Look) -> None:
    found = look("teacher=none", "loss=hard", "student=pretrained", "student.path=tiny:gpt2")
    assert found.status == 0
    assert "teacher weights" not in found.numbers["memory"]["parts"]


def test_too_little_memory_fails_and_says_what_to_lower(look: Look) -> None:
    base = look().numbers["memory"]["base_bytes"]
    found = look("trainer.batch_size=64", "dataset.max_length=512", memory_bytes=base // 2)
    assert found.status == 1
    [line] = found.lines("failure")
    assert "does not fit" in line.text
    assert line.remedy is not None


def test_options_raise_their_parts(look: Look) -> None:
    plain = look().numbers["memory"]["parts"]
    more = look("trainer.batch_size=11", "trainer.ema=0.99", "inner=all").numbers["memory"]["parts"]
    assert more["student activations"] > 1.5 * plain["student activations"]
    assert more["averaged weights"] == more["gradients"] == plain["gradients"]
    assert more["inner layers"] > 0


def test_checkpointing_lowers_the_activations(look: Look) -> None:
    plain = look().numbers["memory"]["parts"]
    checkpointed = look("trainer.gradient_checkpointing=true").numbers["memory"]["parts"]
    assert checkpointed["student activations"] < plain["student activations"] / 2


def test_a_model_that_is_nowhere(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = look("teacher.path=nobody/nothing")
    assert found.status == 1
    assert found.lines("failure")[0].text.startswith("teacher.path=nobody/nothing:")
    assert "memory" in found.lines("unknown")[0].text


def test_more_tokens_than_positions(look: Look) -> None:
    found = look("teacher.path=tiny:gpt2", "dataset.max_length=4096")
    assert {line.remedy for line in found.lines("failure")} == {"dataset.max_length=2048"}
    assert look("dataset.max_length=4096").verdict == "warning"


def test_data_that_is_refused(look: Look) -> None:
    found = look("dataset.format=translation")
    assert found.status == 1
    assert found.lines("failure")
    assert [line.text for line in found.lines("unknown")] == ["memory and time: they need the data"]
    assert found.sections[-1].title == "disk"


def test_responses_that_are_cut_off(look: Look) -> None:
    found = look("dataset.max_length=40")
    texts = [line.text for line in found.lines("warning")]
    assert any("never learns to stop" in text for text in texts)
    assert any("cut away" in text for text in texts)


def test_no_room_on_the_disk(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000})())
    found = look("name=nowhere")
    assert found.status == 1
    [line] = found.lines("failure")
    assert "no room" in line.text


def test_a_stream(look: Look) -> None:
    found = look("dataset.streaming=true", "dataset.heldout=2")
    assert found.status == 0
    assert found.numbers["memory"]["peak_bytes"] > 0


def test_what_the_processor_emulates(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdlab.models.dtype.native_bfloat16", lambda device: False)
    found = look("trainer.precision=bf16-mixed", "teacher.dtype=bfloat16")
    assert {line.remedy for line in found.lines("warning")} == {"trainer.precision=32", "teacher.dtype=auto"}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["inner=hidden", "inner.hidden.map=[[0,5]]"], "inner.hidden.map=[[0, 5]]: the teacher's layers are 0 to "),
        (["inner=relation", "inner.relation.map={model.norm: model.norm}"], "inner.relation.map: the student has no"),
    ],
)
def test_inner_layers_that_are_not_there(look: Look, overrides: list[str], said: str) -> None:
    found = look(*overrides)
    assert found.status == 1
    [line] = found.lines("failure")
    assert line.text.startswith(said)
    assert look("inner=all").status == 0


def test_answers_to_text_that_asks_nothing(look: Look, tmp_path: Path) -> None:
    (tmp_path / "plain.jsonl").write_text("".join(json.dumps({"text": f"line {i} of many"}) + "\n" for i in range(12)))
    found = look("benchmark=answers", f"dataset.path={tmp_path / 'plain.jsonl'}", "dataset.format=text")
    assert found.status == 1
    [line] = found.lines("failure")
    assert line.text.startswith("benchmark.generation: no held-out example has a prompt and an answer")
    assert look("benchmark=answers").status == 0
