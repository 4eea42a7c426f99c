from __future__ import annotations

from typing import Any

import pytest

from kdlab.benchmarking.asking import count_asked
from kdlab.benchmarking.questions import Bench
from kdlab.benchmarking.recipe import JudgeConfig, MTBenchConfig

BOTH = ["single", "pairwise"]


@pytest.mark.parametrize(
    ("options", "teacher", "judgements"),
    [
        ({}, True, {"teacher": 10, "before": 10, "after": 10}),
        ({}, False, {"before": 10, "after": 10}),
        ({"teacher": False, "modes": BOTH}, True, {"before": 10, "after": 10, "pairs": 20}),
        ({"modes": ["pairwise"]}, True, {"pairs": 20}),
    ],
)
def test_judgements_are_those_that_a_run_asks_for(
    bench: Bench, options: dict[str, Any], teacher: bool, judgements: dict[str, int]
) -> None:
    asked = count_asked(MTBenchConfig(max_new_tokens=100, batch_size=2, **options), bench, teacher=teacher)
    assert asked.judgements == judgements
    assert asked.models[-2:] == ("before", "after")
    assert asked.answer_tokens == len(asked.models) * 5 * 2 * 100
    assert asked.steps == 3 * 2 * 100, "three batches, two turns"
    assert (asked.tokens_out, asked.price) == (sum(judgements.values()) * 2048, None)


def test_the_price_is_of_all_tokens(bench: Bench) -> None:
    judge = JudgeConfig(price_in=1.0, price_out=0.0)
    short, long = (
        count_asked(MTBenchConfig(max_new_tokens=n, modes=BOTH, judge=judge), bench, teacher=False) for n in (100, 200)
    )
    # a first turn shows one answer, a second two; a pair shows both models'
    assert long.tokens_in - short.tokens_in == 100 * 5 * (2 * 3 + 2 * 6)
    assert long.price == long.tokens_in / 1e6
