"""What is asked: places filled once, turns worded, prompts refused that leak or ask nothing."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kdlab.config.options import conf_dir
from kdlab.text.formats import FORMATS, Wording
from kdlab.text.prompts import PromptConfig, fill, worded

BRACES = st.text(st.sampled_from("{}questionanswer \\g<0>%s$1é漢🙂"), max_size=30)
PIECES = st.one_of(BRACES, st.sampled_from(["{question}", "{answer}", "{}", "{0}", "{question", "{{answer}}"]))
FIXED = {
    "teacher": "As a teacher, guide your student through solving the question below. Provide a clear, simple "
    "explanation for someone unfamiliar with the problem. ",
    "ai_to_ai": "As a smart language model, provide a detailed answer that is clear and feasible for smaller models to "
    "understand and learn from without losing too much detail. ",
    "confidence": "(At the end of the question) Briefly double-check that your answer is correct once done. ",
}
"""The prefixes of the teacher's question, letter for letter as they were published."""


@given(before=BRACES, question=PIECES, between=BRACES, answer=PIECES)
def test_what_is_filled_in_is_never_read_as_a_place(before: str, question: str, between: str, answer: str) -> None:
    prompt = before + "{question}" + between + "{answer}"
    if prompt.count("{question}") == prompt.count("{answer}") == 1:
        assert fill(prompt, question=question, answer=answer) == before + question + between + answer


def test_both_places_at_once() -> None:
    assert fill("{answer}|{question}|{answer}", question="{answer}", answer="{question}") == (
        "{question}|{answer}|{question}"
    )


def test_each_turn_with_a_reply_is_worded_by_its_own_reply() -> None:
    turns = [
        ("system", "be {question}"), ("user", "not this"), ("user", "1?"), ("assistant", "one"), ("tool", "2?"),
        ("assistant", "two"), ("user", "3?"), ("assistant", "three"), ("user", "unanswered"),
    ]  # fmt: skip
    before = [{"role": role, "content": said} for role, said in turns]
    after = worded(before, "{question}={answer}")
    changed = {2: "1?=one", 6: "3?=three"}
    assert [m["content"] for m in after] == [changed.get(i, said) for i, (_, said) in enumerate(turns)]
    assert [m["content"] for m in before] == [said for _, said in turns], "the document itself is left alone"


@pytest.mark.parametrize(
    ("name", "row", "asked"),
    [
        ("question_answer", {"question": "1+1?", "answer": "2"}, "1+1?"),
        ("question_answer", {"question": "1+1?", "answer": "2", "context": "Sums."}, "Sums.\n\n1+1?"),
        ("prompt_completion", {"prompt": "1+1?", "completion": "2"}, "1+1?"),
        ("instruction", {"instruction": "Add", "input": "1+1", "output": "2"}, "Add\n\n1+1"),
        ("task", {"task": "qa", "input": "1+1", "output": "2"}, "Question: 1+1\nAnswer:"),
        ("article_highlights", {"article": "1+1", "highlights": "2"}, "Summarize the following text:\n1+1"),
        ("source_target", {"source": "1+1", "target": "2"}, "1+1"),
        ("translation", {"translation": {"en": "1+1", "de": "2"}}, "Translate from en to de:\n1+1"),
        ("messages", {"messages": [{"role": "user", "content": "1+1?"}, {"from": "gpt", "value": "2"}]}, "1+1?"),
    ],
)
def test_every_format_with_a_question_is_worded(name: str, row: dict, asked: str) -> None:
    *_, question, answer = FORMATS[name].convert(row, Wording(prompt="<{question}> ({answer})"))
    assert (question["content"], answer["content"]) == (f"<{asked}> (2)", "2")


def test_a_prefix_is_part_of_the_question() -> None:
    wording = Wording(prefix="sum up: ", prompt="Please {question}!")
    question, _ = FORMATS["article_highlights"].convert({"article": "a", "highlights": "b"}, wording)
    assert question["content"] == "Please sum up: a!"


def test_plain_text_asks_nothing() -> None:
    assert FORMATS["text"].convert({"text": "as it is"}, Wording()) == "as it is"
    with pytest.raises(ValueError, match=r"^prompt: .*prompt=base"):
        FORMATS["text"].convert({"text": "as it is"}, Wording(prompt="Now: {question}"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"student": "{question} {answer}"}, "prompt.student: has {answer}"),
        ({"teacher": "no place"}, "prompt.teacher: has no {question}"),
        ({"teacher": "{question} {solution}"}, "prompt.teacher: {solution} is no place"),
        ({"student": ""}, "prompt.student: has no {question}"),
    ],
)
def test_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        PromptConfig(**options)
    assert "\n" not in str(raised.value)


def test_privileged() -> None:
    base, hinted = PromptConfig(), PromptConfig(teacher="Hint. {question}")
    told, worded_both = PromptConfig(teacher="{question} ({answer})"), PromptConfig(student="Q: {question}")
    assert [p.privileged for p in (base, hinted, told, worded_both)] == [False, True, True, False]
    assert [p.plain for p in (base, hinted, told, worded_both)] == [True, False, False, False]
    assert [p.gives_answer for p in (base, hinted, told, worded_both)] == [False, False, True, False]
    assert worded_both.of_teacher == "Q: {question}"
    assert not PromptConfig(student="Q: {question}", teacher="Q: {question}").privileged


@pytest.mark.parametrize("name", [*FIXED, "base", "ground_truth"])
def test_the_prompts_that_come_along(name: str) -> None:
    prompt = PromptConfig(**yaml.safe_load((conf_dir() / "prompt" / f"{name}.yaml").read_text()))
    assert prompt.name == name
    assert prompt.student == "{question}", "the student reads the question alone"
    assert prompt.privileged == (name != "base")
    assert prompt.gives_answer == (name == "ground_truth")
    if name in FIXED:
        assert prompt.teacher == FIXED[name] + "{question}"
