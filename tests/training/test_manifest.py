"""What run.json says of the two models."""

from __future__ import annotations

import pytest

from kdlab.models.student import Student
from kdlab.models.tiny import byte_tokenizer, tiny_model
from kdlab.teachers.live import LiveTeacher
from kdlab.training.manifest import describe


@pytest.mark.parametrize(("added", "same"), [([], True), (["<more>"], False)])
def test_a_shared_tokenizer_is_told_from_one_of_its_own(added: list[str], same: bool) -> None:
    model, tokenizer = tiny_model("llama", seed=0), byte_tokenizer()
    tokenizer.add_tokens(added)
    student = Student(model=model, tokenizer=tokenizer, description="")
    teacher = LiveTeacher(model, byte_tokenizer(), description="")
    assert describe(teacher, student)["student"]["teachers_tokenizer"] is same
    assert describe(None, student)["student"]["teachers_tokenizer"] is None
