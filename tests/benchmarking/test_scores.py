from __future__ import annotations

from statistics import fmean, stdev

import pytest
from scipy.stats import t, ttest_rel

from kdlab.benchmarking.jobs import single_jobs
from kdlab.benchmarking.moves import move
from kdlab.benchmarking.questions import Bench
from kdlab.benchmarking.scores import compared, moved, rated

ANSWERS = dict.fromkeys(range(81, 86), ("", ""))


def test_means_are_over_what_was_read(bench: Bench) -> None:
    jobs = single_jobs(bench, ANSWERS, stage="before", judge="j")
    #         writing    math       writing   stem         math
    ratings = [8.0, 6.0, 2.0, None, 9.0, 7.0, None, None, 4.0, 3.0]
    found = rated(jobs, ratings)
    assert (found["count"], found["unparsed"]) == (7, 3)
    assert found["overall"] == pytest.approx(39 / 7)
    assert found["turn1"] == pytest.approx((8 + 2 + 9 + 4) / 4)
    assert found["turn2"] == pytest.approx((6 + 7 + 3) / 3)
    assert found["categories"] == {"math": 3.0, "stem": None, "writing": 7.5}
    means = [7.0, 2.0, 8.0, 3.5]
    half = t.ppf(0.975, 3) * stdev(means) / 2
    assert found["interval"] == pytest.approx([max(1.0, fmean(means) - half), min(10.0, fmean(means) + half)])


def test_nothing_read_is_no_number(bench: Bench) -> None:
    jobs = single_jobs(bench, ANSWERS, stage="before", judge="j")
    found = rated(jobs, [None] * 10)
    assert (found["overall"], found["turn1"], found["interval"], found["unparsed"]) == (None, None, None, 10)
    found = compared(jobs, [("A", None)] * 10)
    assert (found["win_rate"], found["interval"], found["count"], found["unparsed"]) == (None, None, 0, 10)


def test_what_moved_is_paired_question_by_question(bench: Bench) -> None:
    #                     writing              math                 writing              stem          math
    before = dict(zip("12345", ([8.0, 6.0], [2.0, None], [9.0, 7.0], [None, None], [4.0, 3.0]), strict=True))
    after = dict(zip("12345", ([9.0, 9.0], [2.0, 5.0], [8.0, None], [7.0, 7.0], [4.0, 6.0]), strict=True))
    before, after = ({str(int(name) + 80): pair for name, pair in side.items()} for side in (before, after))
    found = moved(bench.questions, before, after)
    first, second = [7.0, 2.0, 9.0, 3.5], [9.0, 2.0, 8.0, 5.0]  # of each question the turns that both have
    test = ttest_rel(second, first)
    assert found["overall"]["difference"] == pytest.approx(fmean(second) - fmean(first))
    assert found["overall"]["p"] == pytest.approx(test.pvalue)
    half = t.ppf(0.975, 3) * stdev([b - a for a, b in zip(first, second, strict=True)]) / 2
    assert found["overall"]["interval"] == pytest.approx([0.625 - half, 0.625 + half])
    assert found["overall"]["count"] == 4
    assert (found["turn1"]["count"], found["turn2"]["count"]) == (4, 2)
    assert found["turn2"] == {"difference": 3.0, "interval": None, "p": None, "count": 2}, "both moved alike"
    assert found["categories"]["stem"] is None
    assert found["categories"]["writing"]["difference"] == pytest.approx((2.0 - 1.0) / 2)
    back = moved(bench.questions, after, before)
    assert back["overall"]["difference"] == -found["overall"]["difference"]
    assert moved(bench.questions, before, before)["overall"]["difference"] == 0


def test_rounding_is_no_certainty() -> None:
    gains = [8.2 - 8.0, 7.2 - 7.0, 6.2 - 6.0, 5.2 - 5.0]
    assert len(set(gains)) > 1
    assert move(gains) == {"difference": pytest.approx(0.2), "interval": None, "p": None, "count": 4}
    little = move([*gains, 5.20001 - 5.0])
    assert little is not None
    assert 0 < little["p"] < 1e-9, "little is not nothing"


def test_a_win_needs_both_orders(bench: Bench) -> None:
    jobs = single_jobs(bench, ANSWERS, stage="before/after", judge="j")
    orders: list[tuple[str | None, str | None]] = [
        *[("B", "A"), ("B", "A")],  # after wins both turns
        *[("A", "B"), ("A", "A")],  # before wins one, the order decides one
        *[("C", "C"), ("B", "B")],  # a tie, and one that the order made
        *[("C", "A"), (None, "A")],  # the orders contradict each other, and one that was not read
        *[("B", "A"), ("A", "B")],
    ]
    found = compared(jobs, orders)
    assert (found["wins"], found["losses"], found["ties"]) == (3, 2, 4)
    assert (found["order_decided"], found["count"], found["unparsed"]) == (3, 9, 1)
    assert found["win_rate"] == pytest.approx(5 / 9)
    worth = [1.0, 0.25, 0.5, 0.5, 0.5]
    half = t.ppf(0.975, 4) * stdev(worth) / 5**0.5
    assert found["interval"] == pytest.approx([fmean(worth) - half, fmean(worth) + half])


def test_swapping_the_models_swaps_wins_and_losses(bench: Bench) -> None:
    jobs = single_jobs(bench, ANSWERS, stage="before/after", judge="j")
    orders: list[tuple[str | None, str | None]] = [("B", "A")] * 4 + [("A", "B")] * 3 + [("A", "A")] * 3
    one, other = compared(jobs, orders), compared(jobs, [(b, a) for a, b in orders])
    assert (one["wins"], one["losses"]) == (other["losses"], other["wins"]) == (4, 3)
    assert one["win_rate"] == pytest.approx(1 - other["win_rate"])
