from __future__ import annotations

import pytest

from kdlab.models.tiny import byte_tokenizer
from kdlab.text.templates import PLAIN, chat_template, marks_generation, read_template, source_text, turn_end


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


def test_the_token_that_ends_a_turn_is_the_first_special_one_behind_it_else_eos():
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<s>", "<e>"]})
    end = tokenizer.convert_tokens_to_ids("<e>")
    written = "{% for m in messages %}<s>{{ m['content'] }} <e><s>{% endfor %}"
    assert turn_end(tokenizer, written) == end
    assert turn_end(tokenizer, PLAIN) == tokenizer.eos_token_id
    assert turn_end(tokenizer, "{{ messages[-1]['content'] }}") == tokenizer.eos_token_id
    assert turn_end(tokenizer, "{{ raise_exception('no') }}") == tokenizer.eos_token_id
    tokenizer.eos_token = None
    assert turn_end(tokenizer, "{{ messages[-1]['content'] }}") is None


def test_roles_are_written_only_where_there_is_more_than_one_question():
    system, user = {"role": "system", "content": "S"}, {"role": "user", "content": "a"}
    assert source_text([user]) == "a"
    assert source_text([system, user]) == "S\na"
    assert source_text([user, {"role": "assistant", "content": "b"}, user]) == "user: a\nassistant: b\nuser: a"
