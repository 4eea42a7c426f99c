"""The number of a written answer: 200 answers read by hand, laws, and what is no number."""

from __future__ import annotations

import json
import os
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlab.answering.recipe import RULES as ALLOWED
from kdlab.text.final_numbers import RULES, UNRESOLVED, equal, extract, gold, shown
from kdlab.text.numerals import numerals, plain

GOLDEN = [json.loads(line) for line in (Path(__file__).parent / "golden_answers.jsonl").read_text("utf-8").splitlines()]
"""`human` is what a person reads as the answer (None: none, or not to be told); `s1` and `boxed_last` what these rules
give by their definition, which is not always the same."""
every_rules = pytest.mark.parametrize("rules", list(RULES))


@every_rules
@pytest.mark.parametrize("line", GOLDEN, ids=[f"{number}-{line['kind']}" for number, line in enumerate(GOLDEN, 1)])
def test_golden(line: dict, rules: str) -> None:
    found = extract(line["text"], rules=rules, question=line.get("question", ""))
    assert {"value": shown(found.value), "rule": found.rule} == line[rules]


def test_the_golden_set_is_large_and_every_rule_fires_in_it() -> None:
    assert len(GOLDEN) >= 150
    for name, rules in RULES.items():
        fired = {line[name]["rule"] for line in GOLDEN}
        assert fired == {rule.name for rule in rules} | {UNRESOLVED}


def test_how_often_rules_agree_with_a_person() -> None:
    """`pytest -s` prints the table. A wrong number is worse than none, which a person then reads."""
    told = {rules: Counter(map(lambda line, rules=rules: verdict(line, rules), GOLDEN)) for rules in RULES}
    for rules, counts in told.items():
        print(f"{rules:12}", *(f"{name} {count}" for name, count in sorted(counts.items())), sep="  ")
    assert told["boxed_last"]["agrees"] > told["s1"]["agrees"] > 0.85 * len(GOLDEN)
    assert told["boxed_last"]["another number"] < told["s1"]["another number"] < 0.1 * len(GOLDEN)


def verdict(line: dict, rules: str) -> str:
    value = line[rules]["value"]
    return "agrees" if value == line["human"] else "unresolved" if value is None else "another number"


def test_the_names_of_rules_are_those_that_options_allow() -> None:
    assert set(ALLOWED) == set(RULES)


numbers = st.fractions(max_denominator=1000) | st.decimals(-(10**6), 10**6, places=2).map(Fraction)


@given(numbers)
def test_what_is_shown_is_read_back(value: Fraction) -> None:
    text = shown(value)
    assert text is not None
    assert Fraction(text) == value
    for rules in RULES:
        for answer in (text, f"The answer is {text}.", f"So it is \\boxed{{{text}}}", f"#### {text}"):
            assert extract(answer, rules=rules).value == value


@given(
    st.integers(-(10**12), 10**12), st.sampled_from(["{:,}", "${:,}", "{:,}%", "**{:,}**", r"\${:,}", "{:,} apples"])
)
def test_thousands_and_what_is_around_a_number_change_nothing(value: int, form: str) -> None:
    (found,) = numerals(plain(form.format(value)))
    assert found.value == value


@given(
    st.text(alphabet=st.characters(codec="utf-8"), max_size=80)
    | st.text(alphabet="0123456789.,-/ $%\\{}^x:=*\nboxed#", max_size=80)
)
def test_no_text_breaks_the_rules(text: str) -> None:
    for rules in RULES:
        found = extract(text, rules=rules, question=text[:20])
        assert (found.value is None) == (found.rule == UNRESOLVED)


@every_rules
def test_a_long_loop_is_read(rules: str) -> None:
    extract("1 2/3 __4 5, 6 = \\boxed{7 " * 200, rules=rules)
    extract("9" * 10_000 + "e99999", rules=rules)


@pytest.mark.parametrize(
    ("reference", "number"),
    [
        ("He has 2+2=<<2+2=4>>4.\n#### 4", 4),
        ("#### 1,234", 1234),
        ("#### -7", -7),
        ("#### $5.50", Fraction(11, 2)),
        ("It was #### 3, no:\n#### 4", 4),
        (r"So $x = \boxed{\frac{3}{4}}$", Fraction(3, 4)),
        ("42", 42),
        (" $42. ", 42),
        ("50%", 50),
        ("It is 42.", None),
        ("2 or 3", None),
        ("#### none", None),
        ("#### 10:30", None),
        ("no number", None),
        ("", None),
    ],
)
def test_the_number_of_a_reference_is_marked_or_alone(reference: str, number: int | Fraction | None) -> None:
    assert gold(reference) == number


def test_numbers_are_compared_exactly() -> None:
    assert equal(Fraction("18.00"), Fraction(18))
    assert equal(gold("36/2"), Fraction(18))
    assert not equal(Fraction("33.33"), Fraction(100, 3))
    assert not equal(gold("0.5"), gold("50%"))
    assert not equal(None, None)
    assert not equal(None, Fraction(1))


def test_the_question_is_left_out_where_the_answer_begins_with_it_only() -> None:
    question = "Tom has 5 cats and 6 dogs."
    assert extract(f"{question} In all 11.", rules="s1", question=question).value == 11
    assert extract(f"In all 11. {question}", rules="boxed_last", question=question).value == 6
    assert extract("Tom has 5", rules="s1", question="Tom has 5").value is None, "three words or more are a question"
    assert extract("5", rules="s1", question="5").value == 5


@pytest.mark.skipif("KDLAB_GSM8K" not in os.environ, reason="KDLAB_GSM8K names no folder with GSM8K's two files")
@pytest.mark.parametrize(("file", "rows"), [("train", 7473), ("test", 1319)])
def test_every_reference_of_gsm8k_has_its_number(file: str, rows: int) -> None:
    lines = (Path(os.environ["KDLAB_GSM8K"]) / f"{file}.jsonl").read_text("utf-8").splitlines()
    answers = [json.loads(line)["answer"] for line in lines]
    assert len(answers) == rows
    for answer in answers:
        assert gold(answer) == Fraction(answer.split("####")[1].strip().replace(",", ""))
        assert extract(answer, rules="boxed_last").value == gold(answer)
