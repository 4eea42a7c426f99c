from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlab.benchmarking.verdicts import rating, same, verdict, winner


@pytest.mark.parametrize(
    ("judgement", "value"),
    [
        ("Good. Rating: [[5]]", 5.0),
        ("Rating: [[7.5]]", 7.5),
        ("Rating: [[10]], not [[1]]", 10.0),  # the first, as FastChat has it
        ("Rating: [8]", 8.0),  # its second pattern
        ("see [3], but Rating: [[6]]", 6.0),  # the second is tried only without the first
        ("[[1.]]", 1.0),
        ("Rating: [[ 8 ]]", 8.0),
        ("Rating: [[8.5]]", 8.5),
        ("**Rating**: [[\n8\n]]", 8.0),
        ("<think>hardly [[3]], or [[4]]</think>Rating: [[8]]", 8.0),
        ("hardly [[3]]</think>Rating: [[8]]", 8.0),  # the tag that begins it may stand in the prompt
        ("<think>perhaps [[3]], or", None),
        (" \n<think>[[3]]</think>\n<think>or [[4]]</think> Rating: [[8]]", 8.0),
        ("<think>[[3]]</think> It never closes with </think>. Rating: [[8]]", 8.0),
        ("<think>[[3]]</think> Rating: [[8]], as it never closes with </think>.", 8.0),
        ("The assistant leaves its <think> block in the answer, which is clumsy. Rating: [[6]]", 6.0),
        ("Rating: [[6]]\nIt never closes with </think>.", 6.0),
        ("hardly [[3]]</think>Rating: [8]", 8.0),
        ("Rating: 5", None),
        ("[[rating]]", None),
        ("Rating: [[0]]", None),
        ("Rating: [[11]] or [5]", None),  # no rating, and nothing else is taken for one
        ("Rating: [[-3]]", None),
        ("Rating: [[5/10]]", None),
        ("", None),
    ],
)
def test_a_rating_is_read_as_fastchat_does(judgement: str, value: float | None) -> None:
    assert rating(judgement) == value


@given(st.text(alphabet=st.characters(exclude_characters="[]")), st.integers(100, 1000))
def test_any_rating_between_any_words_is_found(words: str, hundredths: int) -> None:
    assert rating(f"{words}[[{hundredths / 100}]]{words}") == hundredths / 100
    assert rating(words) is None


@pytest.mark.parametrize(
    ("judgement", "found"),
    [
        *[("so [[A]]", "A"), ("[[B]]", "B"), ("a tie: [[C]]", "C"), ("[[ B ]]", "B")],
        *[("[A]", None), ("", None), ("[[A]] or [[B]]", None), ("[[b]]", None)],
        *[("<think>[[A]]?</think> no, [[B]]", "B"), ("<think>[[A]]", None)],
        ("Assistant A prints a raw <think> tag, so [[B]]", "B"),
        ("[[B]]: Assistant A ends with </think>.", "B"),
        ("[[A]]?</think> no, [[B]]", "B"),
    ],
)
def test_a_verdict_is_one_letter(judgement: str, found: str | None) -> None:
    assert verdict(judgement) == found


def test_both_orders_must_agree() -> None:
    table = {(a, b): winner(a, b) for a in "ABC" for b in "ABC"}
    assert {orders for orders, who in table.items() if who == "first"} == {("A", "B")}
    assert {orders for orders, who in table.items() if who == "second"} == {("B", "A")}
    assert [orders for orders in table if same(*orders)] == [("A", "B"), ("B", "A"), ("C", "C")]
