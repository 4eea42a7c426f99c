from __future__ import annotations

from kdlab.benchmarking.telling import told_lines

COST = {"requests": 12, "tokens_in": 12_000, "tokens_out": 340, "price": None, "uncounted": 0}
RATED = {
    "overall": 5.25,
    "turn1": 6.0,
    "turn2": 4.5,
    "categories": {},
    "interval": [4.0, 6.5],
    "count": 10,
    "unparsed": 2,
    "limit_reached": 0,
    "cut": 0,
    "cut_short": 0,
    "cost": COST,
}
PAIR = {
    "wins": 3,
    "losses": 1,
    "ties": 4,
    "order_decided": 2,
    "count": 8,
    "unparsed": 0,
    "win_rate": 0.625,
    "interval": [0.4, 0.85],
    "cut_short": 0,
    "cost": COST | {"price": 0.25, "uncounted": 3},
}


def test_each_benchmark_has_its_line() -> None:
    harness = {"choice": {"acc": 0.5, "acc_stderr": 0.25, "other": None}}
    assert told_lines("after", {"mt_bench": RATED, "pairwise": PAIR, "harness": harness}) == [
        "MT-Bench, after: 5.25 of 10 (turns 6.00 and 4.50) over 10 ratings, 2 unparsed; 12 judgements, 12,000 tokens "
        "in, 340 out",
        "MT-Bench, after against before: 3 wins, 1 losses, 4 ties (the order decided 2), 0 unparsed; win rate 62.5% "
        "(40.0% to 85.0%; a tie counts half); 12 judgements, 12,000 tokens in, 340 out (3 not counted by the judge), "
        "price 0.25",
        "lm-evaluation-harness, after: choice acc 0.5 ± 0.25",
    ]
    assert told_lines("teacher", {}) == []


def test_what_moved_is_told_with_its_interval() -> None:
    moved = {"difference": 0.25, "interval": [-0.125, 0.625], "p": 0.18, "count": 80}
    found = {
        "mt_bench": {"overall": moved, "turn1": None, "turn2": moved, "categories": {}},
        "harness": {"choice": {"acc": moved | {"interval": None, "count": 1200}, "norm": None}, "other": {"acc": None}},
    }
    assert told_lines("after", {"moved": found}) == [
        "MT-Bench, after - before: +0.25 (-0.125 to +0.625) over the same 80 questions",
        "lm-evaluation-harness, after - before: choice acc +0.25 over the same 1,200 examples",
    ]


def test_what_lowers_a_score_is_said() -> None:
    (line,) = told_lines("before", {"mt_bench": RATED | {"limit_reached": 7, "cut": 1, "turn2": None}})
    assert "(turns 6.00 and none)" in line
    assert "7 answers reached benchmark.mt_bench.max_new_tokens; 1 prompts were longer than the model reads" in line
    (line,) = told_lines("before", {"mt_bench": RATED | {"overall": None, "unparsed": 12}})
    assert "no rating was read of 12 judgements" in line
    (line,) = told_lines("before", {"mt_bench": RATED | {"cut_short": 2}})
    assert "2 unparsed (2 judgements reached benchmark.mt_bench.judge.max_tokens: raise it)" in line
    (line,) = told_lines("after", {"pairwise": PAIR | {"count": 0, "unparsed": 8, "interval": None}})
    assert "no verdict was read of 8 comparisons" in line
