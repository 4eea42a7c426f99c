from __future__ import annotations

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from readers import TEXTS, byte_level, spaced, word_pieces
from tokenizers import processors
from transformers import ByT5Tokenizer

from kdlab.models.tiny import byte_tokenizer
from kdlab.text.fields import FieldTemplate


def begun(tokenizer):
    """The tokenizer, putting <bos> before every text and <eos> behind it."""
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<bos>", "<eos>")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=ids
    )
    return tokenizer


TOKENIZERS = {"bytes": begun(byte_tokenizer()), "byte_level": begun(byte_level()), "spaced": begun(spaced())}
TEMPLATE = FieldTemplate("Judge. Context: {prompt}\n\nText: {response}\nAnswer:")
BEFORE, BETWEEN, BEHIND = "Judge. Context: ", "\n\nText: ", "\nAnswer:"


def plain(tokenizer, ids: list[int]) -> str:
    """What the tokens say, without the special ones."""
    return tokenizer.decode([i for i in ids if i not in tokenizer.all_special_ids]).lstrip(" ")


def test_a_template_tells_its_columns_and_fills_them() -> None:
    template = FieldTemplate("{{{a}}} {b}{a}")
    assert template.fields == ["a", "b"]
    assert template.fill({"a": "x{", "b": "y"}) == "{x{} yx{"


@pytest.mark.parametrize("wrong", ["no column", "{}", "{a", "a}", "{a!r}", "{a:>9}", ""])
def test_a_template_that_means_nothing_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"^dataset\.labels\.template: "):
        FieldTemplate(wrong)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_what_fits_is_what_the_tokenizer_makes_of_the_whole_text(name: str) -> None:
    tokenizer, row = TOKENIZERS[name], {"prompt": "two words", "response": "naïve 漢字 👩"}
    assert TEMPLATE.encode(tokenizer, [row], 500) == ([tokenizer(TEMPLATE.fill(row))["input_ids"]], [0])


@pytest.mark.parametrize("name", TOKENIZERS)
@given(prompt=TEXTS, response=TEXTS, cut=st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_the_template_and_the_end_survive_any_cut(name: str, prompt: str, response: str, cut: int) -> None:
    tokenizer = TOKENIZERS[name]
    row = {"prompt": f"the quick {prompt}", "response": f"{response} the world"}
    (whole,), _ = TEMPLATE.encode(tokenizer, [row], 10_000)
    shortest = len(whole)
    try:
        (ids,), (lost,) = TEMPLATE.encode(tokenizer, [row], max(shortest - cut, 1))
    except ValueError:
        reject()
    assert len(ids) + lost == len(whole)
    assert len(ids) <= max(shortest - cut, 1)
    assert lost == 0 if cut == 0 else cut <= lost <= cut + 3, "at most the rest of a character goes with it"
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id
    assert ids.count(tokenizer.bos_token_id) == ids.count(tokenizer.eos_token_id) == 1
    said, all_of_it = plain(tokenizer, ids), plain(tokenizer, whole)
    assert said.startswith(BEFORE.rstrip())
    assert said.endswith(all_of_it[-len(BEHIND) - 1 :]), "the template's end, and the last letter before it"
    assert BETWEEN.rstrip() in said
    assert remains(whole, ids)


def remains(whole: list[int], ids: list[int]) -> bool:
    """Whether `ids` are some of `whole`, in their order."""
    rest = iter(whole)
    return all(token in rest for token in ids)


def test_the_first_column_goes_first_and_from_its_beginning() -> None:
    tokenizer = TOKENIZERS["bytes"]
    row = {"prompt": "abcdefgh", "response": "12345678"}
    fixed = len(BEFORE + BETWEEN + BEHIND) + 2
    (a, b), lost = TEMPLATE.encode(tokenizer, [row, row], fixed + 11)
    assert a == b
    assert lost == [5, 5]
    assert plain(tokenizer, a) == f"{BEFORE}fgh{BETWEEN}12345678{BEHIND}"
    (c,), (lost_c,) = TEMPLATE.encode(tokenizer, [row], fixed + 3)
    assert plain(tokenizer, c) == f"{BEFORE}{BETWEEN}678{BEHIND}"
    assert lost_c == 13


def test_a_token_of_column_and_template_is_the_templates() -> None:
    """In "Text: hello" a byte-level tokenizer writes " hello" as one token, which holds the template's space."""
    tokenizer = byte_level(600)
    template = FieldTemplate("T: {a} world")
    (whole,), _ = template.encode(tokenizer, [{"a": "hello there hello there hello"}], 99)
    assert "Ġhello" in tokenizer.convert_ids_to_tokens(whole)
    (ids,), (lost,) = template.encode(tokenizer, [{"a": "hello there hello there hello"}], len(whole) - 1)
    assert lost == 1
    assert tokenizer.decode(ids).startswith("T: hello hello")


def test_a_character_goes_whole() -> None:
    tokenizer = TOKENIZERS["bytes"]
    template = FieldTemplate("{a}.")
    (ids,), (lost,) = template.encode(tokenizer, [{"a": "漢b"}], 6)
    assert (plain(tokenizer, ids), lost) == ("b.", 3)


def test_word_pieces_lose_whole_columns_but_the_last_token() -> None:
    tokenizer = word_pieces()
    row = {"prompt": "hello world " * 9, "response": "the lazy dog"}
    (whole,), _ = TEMPLATE.encode(tokenizer, [row], 500)
    inside = len(tokenizer(row["prompt"] + row["response"])["input_ids"])
    (ids,), (lost,) = TEMPLATE.encode(tokenizer, [row], len(whole) - inside + 1)
    assert lost == inside - 1
    assert tokenizer.convert_ids_to_tokens(ids)[-2 - len(tokenizer("answer")["input_ids"])] in {"dog", "##g", "##og"}
    with pytest.raises(ValueError, match=r"^dataset\.max_length=\d+: the template takes as many tokens"):
        TEMPLATE.encode(tokenizer, [row], len(whole) - inside)


def test_special_tokens_in_a_column_are_plain_text() -> None:
    tokenizer = TOKENIZERS["byte_level"]
    (ids,), _ = FieldTemplate("Q: {a}").encode(tokenizer, [{"a": "<bos> no <eos>"}], 99)
    assert ids.count(tokenizer.bos_token_id) == ids.count(tokenizer.eos_token_id) == 1
    assert plain(tokenizer, ids) == "Q: <bos> no <eos>"


def test_special_tokens_in_the_template_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^dataset\.labels\.template: holds <bos>"):
        FieldTemplate("<bos>[INST] {a} [/INST]").encode(TOKENIZERS["bytes"], [{"a": "b"}], 99)


def test_a_slow_tokenizer_loses_the_beginning_behind_its_special_tokens() -> None:
    slow = ByT5Tokenizer()
    assert not slow.is_fast
    template = FieldTemplate("{a}")
    (whole,), _ = template.encode(slow, [{"a": "0123456789"}], 99)
    (ids,), (lost,) = template.encode(slow, [{"a": "0123456789"}], 6)
    assert lost == len(whole) - 6
    assert ids == whole[lost:]
    assert ids[-1] == slow.eos_token_id
    with pytest.raises(ValueError, match=r"^dataset\.max_length=1: "):
        template.encode(slow, [{"a": "0123456789"}], 1)


def test_no_rows_are_no_tokens() -> None:
    assert TEMPLATE.encode(TOKENIZERS["bytes"], [], 9) == ([], [])
