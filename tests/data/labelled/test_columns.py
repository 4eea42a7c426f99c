from __future__ import annotations

import pytest

from kdlab.data.labelled.columns import check_columns, default_group, default_template


@pytest.mark.parametrize(
    ("columns", "template", "group"),
    [
        (["text", "category"], "{text}", None),
        (["response", "prompt", "category"], "{prompt}\n\n{response}", "prompt"),
        (["answer", "question", "context", "category"], "{context}\n\n{question}\n\n{answer}", "question"),
        (["premise", "hypothesis", "category"], "{premise}\n\n{hypothesis}", "premise"),
    ],
)
def test_known_columns_are_read_question_first(columns: list[str], template: str, group: str | None) -> None:
    assert default_template(columns, "category") == template
    assert default_group(columns, "category") == group


def test_the_label_is_never_read() -> None:
    assert default_template(["text", "answer"], "answer") == "{text}"
    with pytest.raises(ValueError, match=r"^dataset\.labels\.template: none of the columns body, answer .*'\{body\}'"):
        default_template(["body", "answer"], "answer")


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"^dataset\.group: dataset\.path=x has no column 'id'; it has a, b$"):
        check_columns({"a": "dataset.labels.template", "id": "dataset.group"}, ["a", "b"], typed="dataset.path=x")
