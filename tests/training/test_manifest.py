"""What run.json says of the two models."""

from __future__ import annotations

import sys

import pytest
import torch

from kdlab.models.student import Student
from kdlab.models.tiny import byte_tokenizer, tiny_model
from kdlab.teachers.live import LiveTeacher
from kdlab.training.manifest import describe, forget_peak, peak_memory


@pytest.mark.parametrize(("added", "same"), [([], True), (["<more>"], False)])
def test_a_shared_tokenizer_is_told_from_one_of_its_own(added: list[str], same: bool) -> None:
    model, tokenizer = tiny_model("llama", seed=0), byte_tokenizer()
    tokenizer.add_tokens(added)
    student = Student(model=model, tokenizer=tokenizer, description="")
    teacher = LiveTeacher(model, byte_tokenizer(), description="")
    assert describe(teacher, student)["student"]["teachers_tokenizer"] is same
    assert describe(None, student)["student"]["teachers_tokenizer"] is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process begin its peak anew")
def test_each_job_of_a_process_has_a_peak_of_its_own() -> None:
    cpu = torch.device("cpu")
    forget_peak(cpu)
    began = peak_memory(cpu)["host"]
    kept = torch.ones(64 * 2**20)  # 256 MiB
    assert kept.sum() > 0
    held = peak_memory(cpu)["host"]
    del kept
    forget_peak(cpu)
    after = peak_memory(cpu)["host"]
    assert began is not None
    assert held is not None
    assert after is not None
    assert held - began > 200 * 2**20
    assert held - after > 200 * 2**20
