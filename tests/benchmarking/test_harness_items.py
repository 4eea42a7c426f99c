"""Items of a task and what moved, on samples as lm-evaluation-harness tells them."""

from __future__ import annotations

from typing import Any

import pytest

from kdlab.benchmarking.harness_items import items_of, moved, otherwise


def samples(right: list[float], *, prompt: str = "p") -> list[dict[str, Any]]:
    found = [
        {"doc_id": i, "doc_hash": f"d{i}", "prompt_hash": f"{prompt}{i}", "target_hash": "t", "filter": name}
        | {"acc": value, "loss": (value, 2), "f1": value}
        for i, value in enumerate(right)
        for name in ("none", "strict")
    ]
    return found[::-1]


METRICS = {"acc": 0.75, "acc_stderr": 0.1, "acc,strict": 0.75, "loss": 3.0, "f1": 0.5, "other": None}
"""`loss` has pairs, and `f1` is not the mean of its examples."""


def test_only_means_have_items_in_the_order_of_the_examples() -> None:
    found = items_of(samples([1, 0, 1, True]), METRICS)
    assert found["values"] == {"acc": [1, 0, 1, 1], "acc,strict": [1, 0, 1, 1]}
    assert found["asked"] == items_of(samples([0, 1, 1, 1]), METRICS)["asked"], "whatever came out"


def test_what_moved_is_example_by_example() -> None:
    before, after = items_of(samples([1, 0, 1, 1]), METRICS), items_of(samples([0, 1, 1, 1]), METRICS)
    told = moved({"t": before}, {"t": after})["t"]["acc"]
    assert told is not None
    assert (told["difference"], told["count"], told["p"]) == (0, 4, pytest.approx(1))
    assert told["interval"][0] == -told["interval"][1]


def test_other_prompts_are_no_pair() -> None:
    before, after = items_of(samples([1, 0, 1, 1]), METRICS), items_of(samples([0, 1, 1, 1], prompt="q"), METRICS)
    assert moved({"t": before}, {"t": after})["t"] == {"acc": None, "acc,strict": None}
    assert moved({}, {"t": after})["t"]["acc"] is None
    assert otherwise({"t": before}, {"t": after}) == otherwise({}, {"t": after}) == ["t"]


def test_a_metric_that_had_no_examples_before_is_left_out() -> None:
    before, after = items_of(samples([1, 0, 1, 1]), {"acc": 0.75}), items_of(samples([0, 1, 1, 1]), METRICS)
    assert set(moved({"t": before}, {"t": after})["t"]) == {"acc"}
    assert otherwise({"t": before}, {"t": after}) == []
