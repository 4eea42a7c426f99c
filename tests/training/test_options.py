"""Which changed options stop a run from being continued, and how that is said."""

from __future__ import annotations

import pytest

from kdlab.training.options import binding, differences, flatten, refuse_changes

CONFIG = {
    "name": "a",
    "optimizer": {"lr": 0.1},
    "trainer": {"max_steps": 10, "progress": True, "checkpoint": {"every_steps": 1}},
    "student": {"lora": None, "architecture": {}},
}


def test_options_are_named_as_they_are_typed():
    assert flatten(CONFIG)["trainer.checkpoint.every_steps"] == 1
    assert flatten(CONFIG)["student.architecture"] == {}


def test_options_that_do_not_touch_the_weights_are_free():
    changed = {**CONFIG, "name": "b", "trainer": {"max_steps": 10, "progress": False, "checkpoint": {}}}
    assert binding(changed) == binding(CONFIG)


def test_threads_change_the_order_of_sums_and_are_binding():
    one, two = ({"trainer": {"threads": n}} for n in (1, 2))
    assert differences(binding(one), binding(two)) == ["trainer.threads=2 (was 1)"]


@pytest.mark.parametrize(
    ("trainer", "free"),
    [
        ({"checkpoint": {"final": "last"}, "early_stopping": None}, True),
        ({"checkpoint": {"final": "best"}, "early_stopping": None}, False),
        ({"checkpoint": {"final": "last"}, "early_stopping": {"patience": 3}}, False),
    ],
)
def test_what_is_measured_is_free_unless_it_chooses_the_weights(trainer, free):
    few, many = ({"trainer": trainer, "benchmark": {"tokens": n, "speed": n > 1}} for n in (1, 2))
    changed = differences(binding(few), binding(many))
    assert changed == ([] if free else ["benchmark.tokens=2 (was 1)"])


def test_which_weights_become_the_model_is_binding():
    last, best = ({"trainer": {"checkpoint": {"final": f, "every_steps": 1}}} for f in ("last", "best"))
    assert differences(binding(last), binding(best)) == ["trainer.checkpoint.final=best (was last)"]


def test_the_others_are_named_with_both_values():
    changed = {**CONFIG, "optimizer": {"lr": 0.2}, "student": {"lora": {"r": 8}, "architecture": {}}}
    found = differences(binding(CONFIG), binding(changed))
    assert found == ["optimizer.lr=0.2 (was 0.1)", "student.lora.r=8 (was not set)", "student.lora=not set (was None)"]
    with pytest.raises(ValueError, match=r"optimizer\.lr=0\.2 \(was 0\.1\).* the checkpoint in here was made with"):
        refuse_changes(binding(CONFIG), binding(changed), what="the checkpoint", where="here")
    refuse_changes(binding(CONFIG), binding(CONFIG), what="the checkpoint", where="here")


def test_many_differences_are_one_line():
    was, now = {f"o{i}": 0 for i in range(9)}, {f"o{i}": 1 for i in range(9)}
    with pytest.raises(ValueError, match=r"o3=1 \(was 0\) and 5 more:"):
        refuse_changes(was, now, what="it", where="here")
