"""Metrics of decisions: by hand, and beside scikit-learn and scipy over random ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics

from kdlab.metrics.classification import BINS, Decisions, classification_metrics, regression_metrics
from kdlab.text.task import Task

NAMES = ("low", "medium", "high")
LABELS = [0, 0, 0, 1, 1, 2]
PROBABILITIES = [
    [0.70, 0.20, 0.10],  # low, right
    [0.60, 0.30, 0.10],  # low, right
    [0.20, 0.70, 0.10],  # low taken for medium
    [0.10, 0.80, 0.10],  # medium, right
    [0.90, 0.05, 0.05],  # medium taken for low
    [0.05, 0.90, 0.05],  # high taken for medium
]


def task(kind: str = "classification") -> Task:
    names = NAMES if kind == "classification" else ("score",)
    return Task(kind=kind, names=names, column="score", template="{text}", max_length=8)


def test_three_classes_by_hand() -> None:
    found = classification_metrics(PROBABILITIES, LABELS, NAMES)
    assert found["accuracy"] == pytest.approx(3 / 6)
    assert found["confusion"] == [[2, 1, 0], [1, 1, 0], [0, 1, 0]]
    low, medium, high = found["per_class"]
    assert low == {"name": "low", "precision": 2 / 3, "recall": 2 / 3, "f1": pytest.approx(2 / 3), "support": 3}
    assert medium == {"name": "medium", "precision": 1 / 3, "recall": 1 / 2, "f1": pytest.approx(0.4), "support": 2}
    assert high == {"name": "high", "precision": 0, "recall": 0, "f1": 0, "support": 1}  # never decided: 0, not nan
    assert found["macro_precision"] == pytest.approx((2 / 3 + 1 / 3) / 3)
    assert found["macro_recall"] == pytest.approx((2 / 3 + 1 / 2) / 3)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0.4) / 3)
    assert found["weighted_f1"] == pytest.approx((3 * 2 / 3 + 2 * 0.4) / 6)
    assert found["weighted_precision"] == pytest.approx((3 * 2 / 3 + 2 * 1 / 3) / 6)
    assert found["weighted_recall"] == found["accuracy"]
    assert found["majority_accuracy"] == pytest.approx(1 / 2)
    assert classification_metrics(PROBABILITIES, LABELS, NAMES, majority=1)["majority_accuracy"] == pytest.approx(1 / 3)


def test_calibration_by_hand() -> None:
    # Bins are a fifteenth wide, an edge in the lower one: 0.6 is 9/15, so 0.6 | 0.7, 0.7 | 0.8 = 12/15 | 0.9, 0.9.
    found = classification_metrics(PROBABILITIES, LABELS, NAMES)
    bins = [(one["count"], one["accuracy"], one["confidence"]) for one in found["reliability"]]
    assert bins == [
        (1, 1.0, pytest.approx(0.6)),
        (2, 0.5, pytest.approx(0.7)),
        (1, 1.0, pytest.approx(0.8)),
        (2, 0.0, pytest.approx(0.9)),
    ]
    assert found["ece"] == pytest.approx((0.4 + 2 * 0.2 + 0.2 + 2 * 0.9) / 6)


def test_sure_and_right_is_calibrated_and_sure_and_wrong_is_not() -> None:
    sure = np.eye(3)[[0, 1, 2, 2]]
    assert classification_metrics(sure, [0, 1, 2, 2], NAMES)["ece"] == 0
    assert classification_metrics(sure, [1, 2, 0, 0], NAMES)["ece"] == 1
    even = np.full((9, 3), 1 / 3)
    assert classification_metrics(even, [0, 1, 2] * 3, NAMES)["ece"] == pytest.approx(0, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 60), classes=st.integers(2, 6), seed=st.integers(0, 2**16))
def test_scikit_learn_says_the_same(rows: int, classes: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    given_NC = draw.dirichlet(np.full(classes, 0.3), rows)
    labels_N = draw.integers(0, classes, rows)  # with few rows some classes have none
    names = [f"class {i}" for i in range(classes)]
    found = classification_metrics(given_NC, labels_N, names)
    decided_N = given_NC.argmax(1)
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels_N, decided_N))
    for average in ("macro", "weighted"):
        p, r, f, _ = sklearn_metrics.precision_recall_fscore_support(
            labels_N, decided_N, labels=range(classes), average=average, zero_division=0
        )
        told = [found[f"{average}_{name}"] for name in ("precision", "recall", "f1")]
        assert told == pytest.approx([p, r, f])
    assert sum(map(sum, found["confusion"])) == rows
    assert [sum(row) for row in found["confusion"]] == [one["support"] for one in found["per_class"]]
    assert sum(one["count"] for one in found["reliability"]) == rows
    assert found["ece"] == pytest.approx(calibration_error(given_NC.max(1), decided_N == labels_N))


def calibration_error(confidence_N: np.ndarray, correct_N: np.ndarray) -> float:
    """Guo et al. (2017), equations 2 and 3, a bin at a time."""
    error = 0.0
    for m in range(BINS):
        inside = (confidence_N > m / BINS) & (confidence_N <= (m + 1) / BINS)
        if inside.any():
            error += inside.mean() * abs(correct_N[inside].mean() - confidence_N[inside].mean())
    return error


def test_numbers_by_hand() -> None:
    found = regression_metrics([1.0, 2.0, 5.0], [0.0, 2.0, 4.0])
    assert found["rmse"] == pytest.approx(math.sqrt(2 / 3))
    assert found["mae"] == pytest.approx(2 / 3)
    assert found["r2"] == pytest.approx(1 - 2 / 8)
    assert found["mean_rmse"] == pytest.approx(math.sqrt(8 / 3))
    assert regression_metrics([1.0, 2.0], [0.0, 2.0], mean=3.0)["mean_rmse"] == pytest.approx(math.sqrt(5))


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(3, 50), seed=st.integers(0, 2**16))
def test_scikit_learn_and_scipy_say_the_same_of_numbers(rows: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    labels_N = draw.integers(0, 5, rows).astype(float)
    labels_N[0], labels_N[1] = 0.0, 4.0
    given_N = labels_N + draw.normal(size=rows)
    found = regression_metrics(given_N, labels_N)
    assert found["rmse"] == pytest.approx(sklearn_metrics.root_mean_squared_error(labels_N, given_N))
    assert found["mae"] == pytest.approx(sklearn_metrics.mean_absolute_error(labels_N, given_N))
    assert found["r2"] == pytest.approx(sklearn_metrics.r2_score(labels_N, given_N))
    assert found["pearson"] == pytest.approx(np.corrcoef(labels_N, given_N)[0, 1])
    assert found["spearman"] == pytest.approx(stats.spearmanr(labels_N, given_N).statistic)


def test_what_is_not_defined_is_none() -> None:
    constant = regression_metrics([1.0, 1.0, 1.0], [0.0, 1.0, 2.0])
    assert constant["pearson"] is None
    assert constant["spearman"] is None
    assert constant["r2"] == pytest.approx(0.0)
    alike = regression_metrics([0.0, 1.0], [2.0, 2.0])
    assert alike["r2"] is None
    assert alike["rmse"] == pytest.approx(math.sqrt(2.5))


def test_batches_add_up_to_the_whole() -> None:
    draw = torch.Generator().manual_seed(0)
    logits_NC, labels_N = torch.randn(11, 3, generator=draw), torch.randint(3, (11,), generator=draw)
    decisions = Decisions(task(), usual=2)
    for part in (slice(0, 4), slice(4, 5), slice(5, 11)):
        decisions.add(logits_NC[part].requires_grad_(), labels_N[part])
    whole = classification_metrics(logits_NC.double().softmax(1).detach(), labels_N, NAMES, majority=2)
    assert decisions.result() == whole
    numbers = Decisions(task("regression"), usual=1.0)
    for part in (slice(0, 4), slice(4, 11)):
        numbers.add(logits_NC[part, :1], labels_N[part].float())
    assert numbers.result() == regression_metrics(logits_NC[:, 0].double().detach(), labels_N, mean=1.0)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_no_rows_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="hold out more"):
        Decisions(task(kind)).result()
