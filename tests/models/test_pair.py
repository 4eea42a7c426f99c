from __future__ import annotations

import pytest

from kdlab.models import loading
from kdlab.models.pair import check_pair
from kdlab.models.student import CutConfig, StudentConfig
from kdlab.models.tiny import byte_tokenizer, save_tiny, tiny_model
from kdlab.teachers.live import TeacherConfig


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    """Whoever loads a model's weights fails the test."""

    def refuse(*_, **__):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", refuse)
    monkeypatch.setattr(loading, "load_causal", refuse)


@pytest.fixture
def other(tmp_path):
    """A model whose tokenizer has two more entries."""
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["one", "two"])
    tiny_model("llama", vocab_size=len(tokenizer)).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    return str(tmp_path / "other")


TINY = TeacherConfig(path="tiny:llama")


def test_different_vocabularies_are_refused_before_any_weights(other):
    with pytest.raises(ValueError, match=r"^student.path=") as error:
        check_pair(StudentConfig(path=other), TINY)
    assert str(error.value) == (
        f"student.path={other} and the teacher (tiny:llama) have different vocabularies (261 and 259 entries); "
        "choose two models that share a tokenizer"
    )
    with pytest.raises(ValueError, match=r"^student.from_teacher and the teacher .* have different vocabularies"):
        check_pair(StudentConfig(from_teacher=CutConfig(), tokenizer=other), TINY)


def test_heads_of_two_sizes_are_refused(tmp_path):
    tiny_model("llama", vocab_size=320).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"predicts 320 entries and the teacher \(tiny:llama\) 259, with the same"):
        check_pair(StudentConfig(path=str(tmp_path)), TINY)
    bare = StudentConfig(architecture={"model_type": "llama", "vocab_size": 300}, tokenizer="tiny:llama")
    with pytest.raises(ValueError, match=r"^student.architecture predicts 300 entries"):
        check_pair(bare, TINY)


def test_a_model_that_continues_no_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^teacher.path=.*t5 is an encoder-decoder"):
        check_pair(StudentConfig(path="tiny:llama"), TeacherConfig(path=str(save_tiny("t5", tmp_path))))


def test_pairs_that_fit_pass(tmp_path, other, capsys):
    folder = str(save_tiny("gpt2", tmp_path / "s"))
    capsys.readouterr()
    check_pair(StudentConfig(path=folder), TINY)
    check_pair(StudentConfig(path=other), TeacherConfig(path=other))
    check_pair(StudentConfig(from_teacher=CutConfig()), TeacherConfig(path="not/asked"))
    check_pair(StudentConfig(path="not/asked"), TeacherConfig(source="none"))
    assert capsys.readouterr().err == "", "what is said is said when the models are loaded"
