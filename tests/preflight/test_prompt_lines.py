"""What the check shows and counts where the teacher is asked by a prompt of its own."""

from __future__ import annotations

from collections.abc import Callable

from kdlab.preflight.findings import Findings, plain

Look = Callable[..., Findings]


def shown(findings: Findings) -> dict[str, str]:
    """The examples that are shown, by the line above them."""
    lines = [line for section in findings.sections for line in section.lines if line.example]
    return {line.text: plain(line.example) for line in lines}


def test_both_prompts_are_shown_with_the_answer_marked(look: Look) -> None:
    found = look("prompt=ground_truth", "dataset.max_length=128")
    assert not found.lines("failure")
    student, teacher = shown(found).values()
    assert "eyes only" not in student
    assert student.count("answer") == student.count("⟦answer") == 1, "nothing tells the student the answer"
    assert "For your eyes only" in teacher
    assert teacher.count("answer ") > teacher.count("⟦answer") == 1
    assert student.split("⟦")[1].startswith("answer")
    assert student.split("⟦")[1].strip() == teacher.split("⟦")[1].strip(), "both predict the same"


def test_the_teachers_reading_is_counted(look: Look) -> None:
    alone, told = look("dataset.max_length=128"), look("prompt=ground_truth", "dataset.max_length=128")
    assert alone.numbers["data"]["verdict"]["train"]["teacher"] is None
    theirs = told.numbers["data"]["verdict"]["train"]["teacher"]
    assert theirs["supervised"] == told.numbers["data"]["verdict"]["train"]["supervised"]
    assert theirs["longest"] > 128
    assert (
        told.numbers["memory"]["parts"]["teacher activations"] > alone.numbers["memory"]["parts"]["teacher activations"]
    )


def test_a_prompt_beyond_the_teachers_positions_is_said(look: Look) -> None:
    prompt = "prompt.teacher='" + "so long " * 700 + "{question}'"
    (line,) = [line for line in look("teacher.path=tiny:gpt2", prompt).lines("failure") if "positions" in line.text]
    assert "the longest example has 5," in line.text
    assert "shorten prompt.teacher" in (line.remedy or "")
