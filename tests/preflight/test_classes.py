"""The check of a classifier: its classes and folds, its sizes without a language model's head, and what it reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from kdlab.data.labelled.rows import read_labelled
from kdlab.models.classifier import head_names
from kdlab.models.size import measure
from kdlab.models.student import build_student
from kdlab.models.tiny import byte_tokenizer
from kdlab.preflight.live import inner
from kdlab.preflight.sketch import sketch
from kdlab.preflight.weights import packable, weight_bytes
from kdlab.training.models import load_models

Look = Callable[..., Any]
NAMES = ["low", "medium", "high"]


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Rows rated 0 to 4, two to a prompt, and the options that read them."""
    folder = tmp_path_factory.mktemp("rated")
    for split, prompts in (("train", range(24)), ("validation", range(24, 30))):
        rows = [
            {"prompt": f"question {i}", "response": f"answer {i}-{k} 日本", "helpfulness": (i + k) % 5}
            for i in prompts
            for k in range(2)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["dataset=helpsteer2", f"dataset.path={folder}", "dataset.fold=1", "dataset.folds=4"]
    return [*words, "dataset.max_length=160", "benchmark.samples=0"]


@pytest.mark.slow
def test_a_classifier_that_works(look: Look, rated: list[str]) -> None:
    found = look(*rated, "teacher=none", "loss=hard", "student=tiny", probe=True)
    assert found.status == 0, [line.text for line in found.lines("failure", "unknown")]
    assert [section.title for section in found.sections] == [
        *["classes", "models", "tokenizers", "data", "memory", "time", "disk"]
    ]
    numbers = json.loads(json.dumps(found.as_dict()))
    assert numbers["classes"]["classes"]["names"] == NAMES
    assert numbers["classes"]["folds"]["fold"] == 1
    assert sum(numbers["classes"]["classes"]["counts"]["train"].values()) == 36
    assert numbers["data"]["example"]["label"] in NAMES
    assert numbers["data"]["example"]["text"].startswith("Classify the following response based on helpfulness.")
    assert "⟦" not in numbers["data"]["example"]["text"], "no token is a target"
    assert numbers["memory"]["moments"]["generated answers"] <= numbers["memory"]["moments"]["an evaluation"]
    assert numbers["time"]["steps"] == 8
    said = [line.text for line in found.lines("note")]
    assert any(text.startswith("heldout (fold 1 of 4, stratified_group): 12 rows") for text in said)
    assert any(text.endswith(f"its label: {numbers['data']['example']['label']}") for text in said)


@pytest.mark.parametrize(
    "words",
    [
        ["teacher.path=tiny:bert", "student=tiny"],
        ["teacher=tiny", "student=cut_to_one"],
        ["teacher=none", "loss=hard", "student=tiny", "student.lora.r=4"],
    ],
)
def test_sizes_are_those_of_the_classifiers_that_are_built(
    rated: list[str], config: Callable[..., Any], words: list[str]
) -> None:
    told = config(*rated, *words)
    task = read_labelled(told.dataset).task
    teacher, student = load_models(told, device=torch.device("cpu"), task=task)
    models = sketch(told, torch.device("cpu"), task=task)
    assert (models.teacher is None) == (teacher is None)
    if models.teacher is not None and teacher is not None:
        assert models.teacher.size == measure(teacher.model)
    assert models.student.size == measure(student.model)
    assert models.student.vocabulary == 3


def test_a_head_that_classifies_is_never_packed(rated: list[str], config: Callable[..., Any]) -> None:
    told = config(*rated, "teacher=none", "loss=hard", "student=tiny", "student.lora.r=4")
    task = read_labelled(told.dataset).task
    student = build_student(told.student, None, None, seed=0, task=task).model
    heads = {id(m) for name in head_names(inner(student)) for m in inner(student).get_submodule(name).modules()}
    assert heads
    assert not heads & {id(module) for module in packable(student)}
    saved = sum(3 * m.weight.numel() - 4 * m.weight.shape[0] for m in packable(student))
    assert weight_bytes(student, "bnb8") == (measure(student).bytes - saved, True)


@pytest.mark.slow
def test_classes_need_no_logits_over_a_vocabulary(look: Look, rated: list[str]) -> None:
    decides = look(*rated, "teacher=tiny", "student=tiny").numbers["memory"]["parts"]
    writes = look("teacher=tiny", "student=tiny").numbers["memory"]["parts"]
    assert decides["loss chunks"] < 4096 < writes["loss chunks"]


def test_a_target_of_one_class_is_a_finding(look: Look, rated: list[str]) -> None:
    words = ["dataset.labels.bins=[9]", "dataset.labels.names=[few,many]", "teacher=none", "loss=hard", "student=tiny"]
    found = look(*rated, *words)
    assert found.status == 1
    assert [section.title for section in found.sections] == ["classes", "not checked"]
    (line,) = found.lines("failure")
    assert "dataset.labels" in line.text


def test_a_folder_with_a_config_alone_has_sizes_and_is_no_model(look: Look, rated: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 2}
    AutoConfig.for_model("llama", num_hidden_layers=2, vocab_size=260, **shape).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    found = look(*rated, "teacher=none", "loss=hard", "student=pretrained", f"student.path={folder}")
    layer = 4 * 32**2 + 3 * 32 * 48 + 2 * 32
    assert found.numbers["models"]["student"]["parameters"] == 260 * 32 + 2 * layer + 32 + 3 * 32
    assert found.numbers["memory"]["peak_bytes"] > 0
    assert found.status == 1, "a run would not find its weights"
    assert any("has a config and no weights" in line.text for line in found.lines("unknown"))
