"""The verdict on a classifier: against its start, the commonest class and its teacher, and chance."""

from __future__ import annotations

import math

import pytest

from kdlab.reporting.comparison import cells, order_told, ranked
from kdlab.reporting.decisions import majority
from kdlab.reporting.runs import read
from kdlab.reporting.stages import METRICS, measured
from kdlab.reporting.verdict import answer, notes, stage_cells


@pytest.fixture
def run(write_run, classifier):
    def make(
        *rights: int, folder: str = "run", without: tuple[str, ...] = (), more: dict | None = None, name: str = "c"
    ):
        changes = classifier(*rights) | {"name": name}
        for who in without:
            changes["metrics"][who] = None
        return read(write_run(folder, changes | (more or {})) / "run.json")

    return make


def test_a_gain_says_what_it_is_beside(run) -> None:
    found = answer(run(35, 80, 88))
    assert (found.tone, found.headline) == ("good", "The student gained")
    assert found.sentence.replace("\N{NO-BREAK SPACE}", " ") == (
        "On the hold-out test (200 texts), accuracy rose from 36.0 % to 81.0 % (95 % interval 75.0–85.8, always the "
        "commonest class: 60.0 %); it keeps 91.0 % of the teacher's accuracy, 89.0 % (72.4 % of its lead over the "
        "commonest class); macro-F1 rose from 34.3 % to 78.3 %; KL to the teacher fell from 0.900 to 0.200 nats per "
        "text."
    )


@pytest.mark.parametrize(
    ("rights", "tone", "headline"),
    [
        ((35, 58, 88), "bad", "No better than always the commonest class"),
        ((35, 61, 88), "mixed", "A gain within the noise"),
        ((80, 81, 88), "mixed", "A gain within the noise"),
        ((80, 79, 88), "bad", "Nothing was gained"),
        ((90, 70, 88), "bad", "The student lost"),
    ],
)
def test_a_gain_that_chance_could_make_is_called_so(run, rights, tone: str, headline: str) -> None:
    found = answer(run(*rights))
    assert (found.tone, found.headline) == (tone, headline)


def test_a_student_above_its_teacher_and_one_that_cannot_be_told_from_it(run) -> None:
    assert "that is above its teacher's 89.0" in answer(run(35, 90, 88)).sentence
    assert "a difference that chance can make" in answer(run(35, 87, 88, folder="b")).sentence
    assert "its teacher's is the same" in answer(run(35, 88, 88, folder="c")).sentence


def test_without_a_teacher_or_a_start_the_commonest_class_is_left(run) -> None:
    found = answer(run(35, 80, 88, without=("before", "teacher")))
    assert (found.tone, found.headline) == ("good", "Better than always the commonest class")
    assert "accuracy is 81.0" in found.sentence
    assert "teacher's" not in found.sentence


def test_without_a_hold_out_test_the_held_out_texts_decide(run) -> None:
    one = run(35, 80, 88)
    for who in ("before", "after", "teacher"):
        del one.record["metrics"][who]["test"]
    found = answer(one)
    assert found.sentence.startswith("On the held-out texts (100 texts), accuracy rose from 35.0")
    assert not any("hold-out test" in note for note in notes(one))


def test_numbers_are_judged_by_their_error_beside_the_mean(run) -> None:
    def numbers(rmse: float) -> dict:
        part = {"rows": 50, "rmse": rmse, "mae": 0.8 * rmse, "spearman": 0.5, "r2": 0.4, "mean_rmse": 1.0}
        return part | {"test": part}

    def told(before: float, after: float, folder: str) -> tuple[str, str]:
        stages = {"before": numbers(before), "after": numbers(after), "teacher": numbers(0.5)}
        kind = {"data": {"classes": {"kind": "regression", "names": ["helpfulness"], "counts": {"train": {}}}}}
        made = run(folder=folder, more={"metrics": stages} | kind)
        found = answer(made)
        if folder == "good":
            assert found.sentence.startswith(
                "On the hold-out test (50 texts), the root mean square error fell from 2 to 0.600 (always the mean: 1, "
                "teacher 0.500); the rank correlation (Spearman) stayed at 0.500"
            )
            head, rows = stage_cells(made)
            row = dict(zip(head, next(row for row in rows if row[0] == "root mean square error"), strict=True))
            assert (row["after"], row["always the mean"]) == ("0.6000", "1")
            assert row["gap closed"].startswith("93.3")
        return found.tone, found.headline

    assert told(2.0, 0.6, "good") == ("good", "The student gained")
    assert told(2.0, 1.0, "mean") == ("bad", "No better than always the mean")
    assert told(0.6, 0.8, "lost") == ("bad", "The student lost")
    assert told(0.6, 0.599, "same") == ("bad", "Nothing was gained")


@pytest.mark.parametrize(
    ("changes", "tone"),
    [
        ({"status": "running", "metrics": {"teacher": None, "before": None, "after": None}}, "open"),
        ({"metrics": {"teacher": None, "before": None, "after": {}}}, "open"),
        ({"metrics": {"teacher": None, "before": None, "after": {"accuracy": 0.5}}}, "open"),
        ({"metrics": {"teacher": None, "before": None, "after": {"accuracy": math.nan, "rows": 5}}}, "bad"),
        ({"data": None}, "good"),
    ],
)
def test_what_is_missing_or_broken_is_said(run, changes, tone: str) -> None:
    assert answer(run(35, 80, 88, more=changes)).tone == tone


def test_classifiers_have_no_perplexity_and_their_metrics_point_the_right_way(run) -> None:
    one = run(35, 80, 88)
    one.record["metrics"]["after"]["perplexity"] = 3.0
    keys = [metric.key for metric in measured([one])]
    assert "perplexity" not in keys
    assert keys[:2] == ["accuracy", "macro_f1"]
    assert {"ece", "test.accuracy", "test.weighted_f1", "kl", "top1_agreement"} <= set(keys)
    directions = {metric.key: metric.lower for metric in METRICS}
    assert all(directions[key] for key in ("ece", "test.ece", "rmse", "mae", "test.rmse", "kl", "test.kl"))
    higher = ("accuracy", "macro_f1", "weighted_f1", "spearman", "r2", "test.accuracy", "test.macro_f1")
    assert not any(directions[key] for key in higher)


def test_a_table_of_one_run_has_the_commonest_class_and_the_gap(run) -> None:
    head, rows = stage_cells(run(35, 80, 88))
    table = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    accuracy = {key: value.replace("\N{NO-BREAK SPACE}", " ") for key, value in table["accuracy"].items()}
    assert accuracy["after"] == "80.0 % (80/100; 71.1–86.7)"
    assert accuracy["always the commonest class"] == "60.0 %"
    assert accuracy["gap closed"] == "84.9 %", "(80 - 35) / (88 - 35)"
    assert table["accuracy, test"]["teacher"].startswith("89.0")
    assert table["calibration error (ECE)"]["gap closed"] == ""
    assert table["macro-F1"]["always the commonest class"] == ""


def test_many_are_ranked_by_accuracy(run) -> None:
    low, high = run(35, 70, 88, folder="low", name="low"), run(35, 80, 88, folder="high", name="high")
    assert [one.name for one in ranked([low, high])] == ["high", "low"]
    assert order_told([low, high]) == "the highest accuracy on the hold-out test first"
    head, rows = cells([low, high])
    assert "commonest class" in head
    assert dict(zip(head, rows[0], strict=True))["commonest class, test"].startswith("60.0")


def test_the_commonest_class_is_that_of_the_data_else_of_the_metrics(run) -> None:
    one = run(35, 80, 88)
    one.record["metrics"]["after"]["test"]["majority_accuracy"] = 0.7
    assert majority(one, "test") == 0.7, "of the rows that were judged, not of the whole part"
    for who in ("before", "after", "teacher"):
        one.record["metrics"][who]["test"]["majority_accuracy"] = None
    assert majority(one, "test") == 0.6
