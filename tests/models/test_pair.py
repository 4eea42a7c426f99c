from __future__ import annotations

import json

import pytest

from kdlab.models import loading
from kdlab.models.pair import check_pair, shared_entries
from kdlab.models.student import CutConfig, StudentConfig
from kdlab.models.tiny import byte_tokenizer, save_tiny, tiny_model
from kdlab.teachers.options import TeacherConfig


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    """Whoever loads a model's weights fails the test."""

    def refuse(*_, **__):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", refuse)
    monkeypatch.setattr(loading, "load_language_model", refuse)


@pytest.fixture
def other(tmp_path):
    """A model whose tokenizer has two more entries."""
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["one", "two"])
    tiny_model("llama", vocab_size=len(tokenizer)).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    return str(tmp_path / "other")


TINY = TeacherConfig(path="tiny:llama")


def swapped(folder):
    """A model whose tokenizer has the same entries, two of them under each other's ids."""
    tiny_model("llama").save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return str(folder)


CROSS = "choose a cross-tokenizer loss (loss=uld_hybrid or loss=span_kl)"


def test_different_vocabularies_are_refused_before_any_weights(other, tmp_path):
    with pytest.raises(ValueError, match=r"^student.path=") as error:
        check_pair(StudentConfig(path=other), TINY)
    assert str(error.value) == (
        f"student.path={other} and the teacher (tiny:llama) have different vocabularies (261 and 259 entries); "
        "set loss.vocab=shared: the ids that both have mean the same"
    )
    with pytest.raises(ValueError, match=r"^student.from_teacher: its tokenizer has 261 entries, its head only 259"):
        check_pair(StudentConfig(from_teacher=CutConfig(), tokenizer=other), TINY)
    folder = swapped(tmp_path / "swapped")
    with pytest.raises(ValueError, match=r"different vocabularies \(259 and 259 entries\)") as error:
        check_pair(StudentConfig(path=folder), TINY)
    assert str(error.value).endswith(CROSS)


def test_heads_of_two_sizes_are_refused(tmp_path):
    tiny_model("llama", vocab_size=320).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    message = (
        r"predicts 320 entries and the teacher \(tiny:llama\) 259, with the same tokenizer; set loss.vocab=shared$"
    )
    with pytest.raises(ValueError, match=message):
        check_pair(StudentConfig(path=str(tmp_path)), TINY)
    check_pair(StudentConfig(path=str(tmp_path)), TINY, pairing="shared")
    bare = StudentConfig(architecture={"model_type": "llama", "vocab_size": 300}, tokenizer="tiny:llama")
    with pytest.raises(ValueError, match=r"^student.architecture predicts 300 entries"):
        check_pair(bare, TINY)
    check_pair(bare, TINY, pairing="shared")


def test_shared_ids_must_mean_the_same(other, tmp_path):
    check_pair(StudentConfig(path=other), TINY, pairing="shared")
    folder = swapped(tmp_path / "swapped")
    a, b = byte_tokenizer().convert_tokens_to_ids(["A", "B"])
    with pytest.raises(ValueError, match=r"^loss.vocab=shared: 2 ids mean different strings") as error:
        check_pair(StudentConfig(path=folder), TINY, pairing="shared")
    assert str(error.value).endswith(
        f"to student.path={folder} and tiny:llama: {a} is 'B' and 'A', {b} is 'A' and 'B'; {CROSS}"
    )


def test_across_tokenizers_only_the_head_must_be_large_enough(tmp_path, other):
    folder = swapped(tmp_path / "swapped")
    check_pair(StudentConfig(path=folder), TINY, pairing="cross")
    small = StudentConfig(architecture={"model_type": "llama", "vocab_size": 200}, tokenizer=folder)
    with pytest.raises(ValueError, match=r"^student.architecture: its tokenizer has 259 entries, its head only 200"):
        check_pair(small, TINY, pairing="cross")
    check_pair(StudentConfig(architecture={"model_type": "llama"}, tokenizer=other), TINY, pairing="cross")
    with pytest.raises(ValueError, match=r"^student.tokenizer: a student cut from the teacher has the teacher's"):
        check_pair(StudentConfig(from_teacher=CutConfig(), tokenizer=folder), TINY, pairing="cross")


def with_tokens(count):
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([f"extra{i}" for i in range(count)])
    return tokenizer


@pytest.mark.parametrize(
    ("mine", "theirs", "shared"),
    [
        ((0, 259), (0, 259), 259),
        ((0, 259), (0, 323), 259),  # a padded teacher
        ((0, 323), (0, 259), 259),
        ((0, 320), (0, 323), 259),  # both padded
        ((0, 259), (5, 264), 259),  # GPT-Neo beside GPT-J, whose tokenizer names its padding
        ((5, 264), (0, 264), 259),  # a tokenizer with tokens at the end that are padding of the other's head
        ((5, 264), (3, 264), 262),
        ((5, 264), (3, 261), 261),  # a token that is not in the head cannot be predicted
    ],
)
def test_the_shared_ids_end_with_the_last_that_both_have(mine, theirs, shared):
    (extra, entries), (teacher_extra, teacher_entries) = mine, theirs
    found = shared_entries(
        with_tokens(extra), with_tokens(teacher_extra), entries=entries, teacher_entries=teacher_entries
    )
    assert found == shared


def test_nothing_shared_is_refused():
    with pytest.raises(ValueError, match=r"^loss.vocab=shared: the student and the teacher share no id"):
        shared_entries(byte_tokenizer(), byte_tokenizer(), entries=259, teacher_entries=0)


def test_a_model_that_writes_no_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^teacher.path=.*bert is an encoder"):
        check_pair(StudentConfig(path="tiny:llama"), TeacherConfig(path=str(save_tiny("bert", tmp_path))))


def test_pairs_that_fit_pass(tmp_path, other, capsys):
    folder = str(save_tiny("gpt2", tmp_path / "s"))
    capsys.readouterr()
    check_pair(StudentConfig(path=folder), TINY)
    check_pair(StudentConfig(path=other), TeacherConfig(path=other))
    check_pair(StudentConfig(from_teacher=CutConfig()), TeacherConfig(path="not/asked"))
    check_pair(StudentConfig(path="not/asked"), TeacherConfig(source="none"))
    assert capsys.readouterr().err == "", "what is said is said when the models are loaded"
