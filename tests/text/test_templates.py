from __future__ import annotations

import pytest

from kdlab.models.tiny import byte_tokenizer
from kdlab.text.templates import PLAIN, chat_template, marks_generation, read_template


def test_a_missing_template_file_names_the_option(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"dataset.template=.*nowhere.jinja: no such file"):
        read_template(str(tmp_path / "nowhere.jinja"))


def test_a_template_file_is_read_as_it_is(tmp_path):
    file = tmp_path / "mine.jinja"
    file.write_text("{{ messages }}\n", encoding="utf-8")
    assert read_template(str(file)) == "{{ messages }}\n"


def test_override_then_own_then_plain():
    tokenizer = byte_tokenizer()
    assert chat_template(tokenizer, "mine") == "mine"
    assert chat_template(tokenizer) == tokenizer.chat_template
    tokenizer.chat_template = None
    assert chat_template(tokenizer) == PLAIN


@pytest.mark.parametrize(
    ("template", "marked"),
    [("{% generation %}", True), ("{%- generation -%}", True), ("{{ generation }}", False), (PLAIN, False)],
)
def test_generation_marks_are_seen(template, marked):
    assert marks_generation(template) is marked
