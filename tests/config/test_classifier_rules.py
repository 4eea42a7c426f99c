"""Which kinds of models may decide about texts, as far as names and configs tell: nothing is loaded."""

from __future__ import annotations

import json

import pytest

from kdlab.config.families import check_model, kind_of
from kdlab.config.kinds import check_kinds
from kdlab.config.rules import check_student, check_teacher
from kdlab.data.dataset import DatasetConfig
from kdlab.data.labels import LabelsConfig
from kdlab.models.student import StudentConfig
from kdlab.teachers.options import TeacherConfig
from kdlab.training.recipe import TrainConfig

LABELS = LabelsConfig(column="score")


def config(teacher="tiny:llama", labels=LABELS, **student):
    return TrainConfig(
        teacher=TeacherConfig(path=teacher),
        student=StudentConfig(**(student or {"path": "tiny:bert"})),
        dataset=DatasetConfig(path="rows", labels=labels),
    )


@pytest.mark.parametrize("path", ["tiny:bert", "FacebookAI/roberta-base", "distilbert/distilbert-base-uncased"])
def test_an_encoder_decides_and_writes_nothing(path):
    check_model("student.path", path, labelled=True)
    with pytest.raises(ValueError, match=f"student.path={path}: an encoder.* or set dataset.labels to teach a classif"):
        check_model("student.path", path)


@pytest.mark.parametrize("path", ["tiny:t5", "google/flan-t5-small", "facebook/bart-base"])
def test_an_encoder_decoder_writes_and_does_not_decide(path):
    check_model("student.path", path)
    with pytest.raises(ValueError, match=f"student.path={path}: an encoder-decoder.*such as llama"):
        check_model("student.path", path, labelled=True)


@pytest.mark.parametrize("pair", [("tiny:llama", "tiny:bert"), ("tiny:bert", "tiny:gpt2"), ("tiny:bert", "tiny:bert")])
def test_two_that_decide_may_be_of_any_kinds(pair):
    teacher, student = pair
    asked = config(teacher, path=student)
    for rule in (check_teacher, check_student, check_kinds):
        rule(asked)
    with pytest.raises(ValueError, match="encoder model"):
        check_teacher(config(teacher, labels=None)) if teacher == "tiny:bert" else check_student(
            config(labels=None, path=student)
        )


def test_an_architecture_is_judged_alike():
    bert, t5 = ({"architecture": {"model_type": kind}, "tokenizer": "tiny:bert"} for kind in ("bert", "t5"))
    check_student(config(**bert))
    check_student(config(labels=None, **t5))
    with pytest.raises(ValueError, match=r"student\.architecture\.model_type=t5: an encoder-decoder"):
        check_student(config(**t5))
    with pytest.raises(ValueError, match=r"student\.architecture\.model_type=bert: an encoder model"):
        check_student(config(labels=None, **bert))


def test_an_adapter_is_of_the_kind_of_its_base(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for folder in (base, adapter):
        folder.mkdir()
    (base / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    for name, kind in ((str(base), "encoder"), ("HuggingFaceTB/SmolLM2-135M", "causal"), ("tiny:gpt2", "causal")):
        (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": name}))
        assert kind_of(str(adapter)) == kind
