"""Counts, intervals and tests, against published values and by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlab.metrics.accuracy import Accuracy, judge, mcnemar, over_questions

# Newcombe (1998), Statistics in Medicine 17:857-872, table I, method 3.
WILSON = [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]


@pytest.mark.parametrize(("correct", "count", "low", "high"), WILSON)
def test_intervals_equal_the_published_ones(correct: int, count: int, low: float, high: float) -> None:
    assert Accuracy(correct, count).interval() == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 2000), st.data())
def test_the_interval_holds_the_share_and_mirrors(count: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, count))
    found = Accuracy(correct, count)
    low, high = found.interval()
    assert -1e-12 <= low <= found.share + 1e-12 <= high + 2e-12 <= 1 + 4e-12
    assert Accuracy(count - correct, count).interval() == pytest.approx((1 - high, 1 - low))


def test_counts_that_cannot_be_are_refused() -> None:
    for correct, count in ((5, 4), (-1, 4)):
        with pytest.raises(ValueError, match=f"{correct} right of {count}"):
            Accuracy(correct, count)
    assert math.isnan(Accuracy(0, 0).share)
    assert all(map(math.isnan, Accuracy(0, 0).interval()))


def table(both: int, first: int, second: int, none: int) -> tuple[list[bool], list[bool]]:
    kinds = [(True, True)] * both + [(True, False)] * first + [(False, True)] * second + [(False, False)] * none
    return [a for a, _ in kinds], [b for _, b in kinds]


# The first is of Fagerland, Lydersen and Laake (2013), BMC Medical Research Methodology 13:91, table 2: 0.070.
EXACT = [
    ((1, 1, 7, 12), 18 / 256),
    ((3, 10, 0, 3), 2 / 1024),
    ((0, 5, 1, 0), 14 / 64),
    ((2, 0, 0, 2), 1.0),
    ((0, 3, 3, 0), 1.0),
]


@pytest.mark.parametrize(("cells", "p"), EXACT)
def test_mcnemar_equals_the_binomial_by_hand(cells: tuple[int, int, int, int], p: float) -> None:
    found = mcnemar(*table(*cells))
    assert (found.both, found.first, found.second, found.count) == (*cells[:3], sum(cells))
    assert found.p == pytest.approx(p, rel=1e-9)
    assert found.difference == pytest.approx((cells[1] - cells[2]) / sum(cells))


@given(*(st.integers(0, 30) for _ in range(4)))
def test_mcnemar_is_symmetric_and_a_probability(both: int, first: int, second: int, none: int) -> None:
    a, b = table(both, first, second, none)
    one, other = mcnemar(a, b), mcnemar(b, a)
    assert 0 <= one.p <= 1
    assert one.p == other.p
    n, few = first + second, min(first, second)
    by_hand = min(1.0, 2 * sum(math.comb(n, k) for k in range(few + 1)) / 2**n)
    assert one.p == pytest.approx(by_hand)


def test_answers_to_other_questions_are_not_paired() -> None:
    with pytest.raises(ValueError, match="zip"):
        mcnemar([True], [True, False])


def test_several_draws_count_by_question() -> None:
    mean, (low, high) = over_questions([0.25, 0.5, 0.75, 0.5])
    half = 3.182446 * math.sqrt(0.125 / 3) / 2  # t(3), sd = sqrt(0.125 / 3)
    assert (mean, low, high) == pytest.approx((0.5, 0.5 - half, 0.5 + half), rel=1e-6)
    assert over_questions([0.0, 0.5])[1] == (0.0, 1.0), "a share lies between 0 and 1"
    assert over_questions([0.0] * 20) == (0.0, Accuracy(0, 20).interval()), "no spread is not certainty"
    repeated = over_questions([1.0, 0.0, 1.0, 0.0] * 25)[1]
    assert repeated[1] - repeated[0] > 0.19, "four draws of one question are one question"


def test_answers_are_judged_by_their_number() -> None:
    references = ["... #### 18", "#### 7", "#### 1/2", "no number", "#### 3"]
    written = ["So it is 18.", "I don't know.", "\\boxed{0.5}", "5", "He has 3. She has 4."]
    found = judge(written, references, rules="boxed_last")
    assert found.record() == {"correct": 2, "count": 4, "resolved": 3, "left_out": 1, "rules": "boxed_last"}
    assert [example["correct"] for example in found.examples] == [True, False, True, None, False]
    assert found.examples[0] == {"value": "18", "rule": "last_number", "correct": True}
    assert found.examples[1] == {"value": None, "rule": "unresolved", "correct": False}


def test_a_repeated_question_is_not_its_answer() -> None:
    question = "Tom has 5 cats and 6 dogs."
    assert judge([question], ["#### 6"], rules="s1").accuracy.correct == 1
    assert judge([question], ["#### 6"], rules="s1", questions=[question]).accuracy.correct == 0


def test_references_without_a_number_are_refused() -> None:
    with pytest.raises(ValueError, match="no reference answer has a number") as caught:
        judge(["5"], ["five"], rules="s1")
    assert "\n" not in str(caught.value)
