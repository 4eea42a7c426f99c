"""How good decisions about whole texts are: classes with their probabilities, or numbers.

    found = Decisions(task)
    found.add(logits_NC, labels_N)      # a batch at a time, kept on the CPU
    found.result()["macro_f1"]

Shape letters: N rows, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from kdlab.text.task import Task

BINS = 15
"""Equal-width bins of confidence that the calibration error is taken over (Guo et al., 2017)."""


def classification_metrics(
    probabilities_NC: ArrayLike, labels_N: ArrayLike, names: Sequence[str], *, majority: int | None = None
) -> dict[str, Any]:
    """What the classes of highest probability are worth beside the labels; of equal ones the first is taken.

    `accuracy`; precision P = TP / (TP + FP), recall R = TP / (TP + FN) and F1 = 2 P R / (P + R) of every class
    (`per_class`), each 0 where its denominator is 0 (no row decided so, or labelled so); their means over *all* classes
    (`macro_...`: a class without rows counts with its 0, so that any two splits average over the same classes), and
    weighted by the classes' rows (`weighted_...`).

    `ece`: Σ_b n_b / N |accuracy_b - confidence_b|, between 0 and 1, over 15 bins (m/15, (m+1)/15]
    of the highest probability (Guo et al., 2017); `reliability` has the bins that are not empty. `confusion[t][d]`
    counts rows of class t decided as d. `majority_accuracy` is that of always answering `majority`, the commonest
    class of the training data (None: the commonest here).

    Raises ValueError where there are no rows.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    given_NC, true_N = np.asarray(probabilities_NC, dtype=np.float64), np.asarray(labels_N, dtype=np.int64)
    assert given_NC.shape == (len(true_N), len(names)), (given_NC.shape, len(true_N), len(names))
    _refuse_none(len(true_N))
    decided_N, ids = given_NC.argmax(1), list(range(len(names)))
    precision, recall, f1, support = precision_recall_fscore_support(true_N, decided_N, labels=ids, zero_division=0)
    share = support / support.sum()
    metrics: dict[str, Any] = {"accuracy": float((decided_N == true_N).mean())}
    for name, values in (("f1", f1), ("precision", precision), ("recall", recall)):
        metrics |= {f"macro_{name}": float(values.mean()), f"weighted_{name}": float((values * share).sum())}
    metrics["ece"], metrics["reliability"] = _calibration(given_NC.max(1), decided_N == true_N)
    metrics["confusion"] = confusion_matrix(true_N, decided_N, labels=ids).tolist()
    metrics["per_class"] = [
        {"name": name, "precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
        for name, p, r, f, n in zip(names, precision, recall, f1, support, strict=True)
    ]
    commonest = int(support.argmax()) if majority is None else majority
    metrics["majority_accuracy"] = float(share[commonest])
    return metrics


def regression_metrics(
    predictions_N: ArrayLike, labels_N: ArrayLike, *, mean: float | None = None
) -> dict[str, float | None]:
    """How far numbers are from their labels, in the label's unit: `rmse`, `mae`; `r2` = 1 - SS_residual / SS_total;
    `pearson` and `spearman` (ranks) correlation. The last three are None where either side is constant, or `r2` where
    the labels are: they are not defined there. `mean_rmse` is the rmse of always answering `mean`, that of the training
    data (None: the mean of these labels).

    Raises ValueError where there are no rows.
    """
    from scipy.stats import pearsonr, spearmanr

    given_N, true_N = np.asarray(predictions_N, dtype=np.float64), np.asarray(labels_N, dtype=np.float64)
    assert given_N.shape == true_N.shape
    _refuse_none(len(true_N))
    gap_N, spread = given_N - true_N, float(true_N.var())
    middle = float(true_N.mean()) if mean is None else mean
    related = spread > 0 and float(given_N.var()) > 0
    return {
        "rmse": float(np.sqrt(np.square(gap_N).mean())),
        "mae": float(np.abs(gap_N).mean()),
        "pearson": float(pearsonr(given_N, true_N).statistic) if related else None,
        "spearman": float(spearmanr(given_N, true_N).statistic) if related else None,
        "r2": 1 - float(np.square(gap_N).mean()) / spread if spread > 0 else None,
        "mean_rmse": float(np.sqrt(np.square(true_N - middle).mean())),
    }


@dataclass
class Decisions:
    """What a model decides about the rows of many batches, kept on the CPU in float64.

    `usual` is what the training data says most often: the id of its commonest class, or its mean (None: that of the
    rows here).
    """

    task: Task
    usual: float | None = None
    _given: list[NDArray[np.float64]] = field(default_factory=list)
    _labels: list[NDArray[Any]] = field(default_factory=list)

    def add(self, logits_NC: torch.Tensor, labels_N: torch.Tensor) -> None:
        """A batch of rows: the logits of every class, or the one number of a regression `[N, 1]`."""
        given_NC = logits_NC.detach().cpu().double()
        self._given.append((given_NC[:, 0] if self.task.is_regression else given_NC.softmax(1)).numpy())
        self._labels.append(labels_N.cpu().numpy())

    @property
    def given(self) -> NDArray[np.float64]:
        """Probabilities `[N, C]`, or numbers `[N]`."""
        if not self._given:
            return np.zeros(0 if self.task.is_regression else (0, self.task.outputs))
        return np.concatenate(self._given)

    @property
    def labels(self) -> NDArray[Any]:
        return np.concatenate(self._labels) if self._labels else np.zeros(0, dtype=np.int64)

    def result(self) -> dict[str, Any]:
        """`classification_metrics`, or `regression_metrics`, over all rows."""
        if self.task.is_regression:
            return dict(regression_metrics(self.given, self.labels, mean=self.usual))
        usual = None if self.usual is None else int(self.usual)
        return classification_metrics(self.given, self.labels, self.task.names, majority=usual)


def _calibration(
    confidence_N: NDArray[np.float64], correct_N: NDArray[np.bool_]
) -> tuple[float, list[dict[str, float]]]:
    """The expected calibration error, and confidence, accuracy and count of each bin that has rows."""
    edges = np.arange(1, BINS) / BINS
    bin_N = np.searchsorted(edges, confidence_N, side="left")  # an edge belongs to the bin below it
    error, bins = 0.0, []
    for at in np.unique(bin_N):
        inside_N = bin_N == at
        count, confidence, accuracy = inside_N.sum(), confidence_N[inside_N].mean(), correct_N[inside_N].mean()
        error += count / len(bin_N) * abs(accuracy - confidence)
        bins.append({"confidence": float(confidence), "accuracy": float(accuracy), "count": int(count)})
    return float(error), bins


def _refuse_none(rows: int) -> None:
    if rows == 0:
        raise ValueError("dataset.heldout: there are no rows to judge by; hold out more of them")
