from __future__ import annotations

import pytest

from kdlab.text.formats import FORMATS, SkipRow, detect, matching


def user_and_answer(prompt: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


ROWS = [
    ("instruction", {"instruction": "Add.", "input": "1 2", "output": "3"}, user_and_answer("Add.\n\n1 2", "3")),
    ("instruction", {"instruction": "Hi", "output": "Yo"}, user_and_answer("Hi", "Yo")),
    ("instruction", {"instruction": "Hi", "input": " ", "response": "Yo"}, user_and_answer("Hi", "Yo")),
    (
        "instruction",
        {"instruction": "Who?", "context": "Bob.", "response": "Bob", "category": "qa"},
        user_and_answer("Who?\n\nBob.", "Bob"),
    ),
    ("prompt_completion", {"prompt": "a", "completion": "b"}, user_and_answer("a", "b")),
    ("prompt_completion", {"prompt": "a", "response": "b", "helpfulness": 3}, user_and_answer("a", "b")),
    (
        "prompt_completion",
        {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]},
        user_and_answer("a", "b"),
    ),
    ("messages", {"messages": user_and_answer("a", "b"), "id": 3}, user_and_answer("a", "b")),
    (
        "messages",
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        user_and_answer("a", "b"),
    ),
    (
        "messages",
        {"system": "S", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        [{"role": "system", "content": "S"}, *user_and_answer("a", "b")],
    ),
    (
        "messages",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, *user_and_answer("c", "b")[1:]]},
        user_and_answer("a", "b"),
    ),
    ("task", {"task": "qa", "input": "Who?", "output": "Me"}, user_and_answer("Question: Who?\nAnswer:", "Me")),
    (
        "task",
        {"task": "summarization", "input": "Long {input}", "output": "S"},
        user_and_answer("Summarize the following text:\nLong {input}", "S"),
    ),
    ("task", {"task": "translate", "input": "Haus", "output": "house"}, user_and_answer("translate: Haus", "house")),
    ("context_response", {"context": "c", "response": "r"}, user_and_answer("c", "r")),
    ("question_answer", {"question": "q", "answer": "a"}, user_and_answer("q", "a")),
    ("question_answer", {"context": "c", "question": "q", "answer": "a"}, user_and_answer("c\n\nq", "a")),
    (
        "article_highlights",
        {"article": "A", "highlights": "h"},
        user_and_answer("Summarize the following text:\nA", "h"),
    ),
    ("text", {"text": "Once", "meta": {}}, "Once"),
]


@pytest.mark.parametrize(("name", "row", "document"), ROWS, ids=[f"{n}-{'-'.join(r)}" for n, r, _ in ROWS])
def test_a_row_is_recognised_and_read(name, row, document):
    form = detect(row)
    assert form.name == name
    assert form.convert(row) == document


def test_every_format_has_a_row_here():
    assert {name for name, _, _ in ROWS} == set(FORMATS)


def test_no_match_says_what_was_seen_and_what_is_known():
    with pytest.raises(ValueError, match=r"columns label, sentence; known: messages .*text") as error:
        detect(["sentence", "label"])
    assert all(name in str(error.value) for name in FORMATS)
    assert "\n" not in str(error.value)


def test_a_format_can_be_forced_but_needs_its_columns():
    columns = ["instruction", "context", "response"]
    assert detect(columns).name == "instruction"
    assert detect(columns, forced="context_response").name == "context_response"
    assert matching(columns) == ["instruction", "context_response"]
    with pytest.raises(ValueError, match=r"dataset.format=text: needs columns text; the rows have context"):
        detect(columns, forced="text")


SKIPPED = [
    ({"instruction": "Hi", "output": None}, "no output or response"),
    ({"instruction": "Hi", "output": "  "}, "output is empty"),
    ({"instruction": 3, "output": "a"}, "instruction is not text"),
    ({"text": ""}, "text is empty"),
    ({"text": "\ud800"}, "text is not valid Unicode"),
    ({"messages": "a"}, "messages are not a list of turns"),
    ({"messages": [{"role": "user", "content": "a"}]}, "no assistant turn"),
    ({"messages": [{"role": "pope", "content": "a"}]}, "a turn with the unknown role 'pope'"),
    ({"messages": [{"role": "user", "content": None}]}, "a turn without text"),
    ({"messages": [{"role": "assistant", "content": "a"}]}, "the conversation starts with the assistant"),
]


@pytest.mark.parametrize(("row", "reason"), SKIPPED, ids=[reason for _, reason in SKIPPED])
def test_a_row_that_lacks_something_says_what(row, reason):
    with pytest.raises(SkipRow, match=reason):
        detect(row).convert(row)
