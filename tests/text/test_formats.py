from __future__ import annotations

import pytest

from kdlab.text.formats import FORMATS, SkipRow, Wording, detect, matching


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
    ("source_target", {"source": "s", "target": "t"}, user_and_answer("s", "t")),
    (
        "source_target",
        {"source": ["One.", "Two."], "target": ["Both.", "All."], "source_labels": [0, 1], "paper_id": "x"},
        user_and_answer("One. Two.", "Both."),
    ),
    (
        "translation",
        {"translation": {"en": "Hello", "de": "Hallo"}},
        user_and_answer("Translate from en to de:\nHello", "Hallo"),
    ),
    (
        "translation",
        {"translation": {"cs": None, "de": "Hallo", "en": "Hello"}, "system": "S"},
        [{"role": "system", "content": "S"}, *user_and_answer("Translate from de to en:\nHallo", "Hello")],
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


@pytest.mark.parametrize(
    ("columns", "remedy"),
    [
        (["source", "traget"], "columns source, traget; did you mean target?"),
        (["id", "promt", "completoin"], "columns completoin, id, promt; did you mean completion and prompt?"),
        (["Text", "label"], "columns Text, label; did you mean text?"),
        (["sentence", "label"], "columns label, sentence; rename them, such as prompt and completion, or text"),
        ([f"column_{i}" for i in range(50)], "column_11, column_12 and 45 more; rename them"),
    ],
)
def test_no_match_says_what_was_seen_and_what_may_be_meant(columns, remedy):
    with pytest.raises(ValueError, match=r"^dataset.path=rows.jsonl: no known format has the columns") as error:
        detect(columns, typed="dataset.path=rows.jsonl")
    assert remedy in str(error.value)
    assert len(str(error.value)) < 200
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
    ({"source": ["a", 3], "target": "b"}, "source is not text"),
    ({"source": [], "target": "b"}, "source is empty"),
    ({"source": "a", "target": []}, "no target"),
    ({"translation": "a"}, "translation is not a pair of languages"),
    ({"translation": {"en": "a", "de": None}}, "translation has fewer than two languages"),
    ({"translation": {"en": "a", "de": " "}}, "de is empty"),
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


WORDED = [
    ({"article": "A", "highlights": "h"}, "A"),
    ({"task": "summarization", "input": "A", "output": "h"}, "A"),
    ({"task": "translate", "input": "A", "output": "h"}, "A"),
    ({"source": "A", "target": "h"}, "A"),
    ({"translation": {"en": "A", "de": "h"}}, "A"),
    ({"context": "A", "response": "h"}, "A"),
    ({"prompt": "A", "completion": "h"}, "A"),
    ({"instruction": "A", "input": "B", "output": "h"}, "A\n\nB"),
    ({"question": "A", "context": "C", "answer": "h"}, "C\n\nA"),
    ({"messages": user_and_answer("A", "h")}, "A"),
]


@pytest.mark.parametrize(("row", "text"), WORDED, ids=["-".join(row) for row, _ in WORDED])
@pytest.mark.parametrize("prefix", ["summarize: ", ""])
def test_a_prefix_takes_the_place_of_the_instruction_a_format_brings(row, text, prefix):
    assert detect(row).convert(row, Wording(prefix=prefix)) == user_and_answer(prefix + text, "h")


def test_a_prefix_stands_before_the_first_question_and_behind_the_system():
    system = {"role": "system", "content": "S"}
    row = {"messages": [system, *user_and_answer("a", "b"), *user_and_answer("c", "d")]}
    expected = [system, *user_and_answer("chat: a", "b"), *user_and_answer("c", "d")]
    assert detect(row).convert(row, Wording(prefix="chat: ")) == expected


def test_plain_text_has_nothing_to_put_a_prefix_before():
    with pytest.raises(ValueError, match=r"dataset.prefix=x: : plain text has no source"):
        FORMATS["text"].convert({"text": "a"}, Wording(prefix="x: "))
    assert FORMATS["text"].convert({"text": "a"}, Wording(prefix="")) == "a"


def test_the_two_sides_of_a_translation_can_be_named():
    row = {"translation": {"en": "Hello", "de": "Hallo", "fr": "Salut"}}
    wording = Wording(source_language="fr", target_language="en")
    expected = user_and_answer("Translate from fr to en:\nSalut", "Hello")
    assert FORMATS["translation"].convert(row, wording) == expected
    with pytest.raises(ValueError, match=r"dataset.source_language=null: .*en, de, fr"):
        FORMATS["translation"].convert(row)
    with pytest.raises(SkipRow, match="no es"):
        FORMATS["translation"].convert(row, Wording(source_language="es", target_language="en"))
