"""Whether a variant still does what its original does, and what it costs: both read the same rows, in turn.

Shape letters: N rows (of a model that writes: tokens), C classes, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from kdlab.exporting.variants import CLASSIFIER, Variant, log_softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kdlab.exporting.examples import Examples

    Floats = NDArray[np.float32]

WARM = 3
"""Single examples read before the first timed one."""


@dataclass
class Seconds:
    """How long the two took over the same rows, original first: a pair for each row or batch."""

    pairs: list[tuple[float, float]] = field(default_factory=list)
    rows: int = 0

    def of(self, which: int) -> NDArray[np.float64]:
        return np.array([pair[which] for pair in self.pairs])

    @property
    def ratio(self) -> float:
        """The median of original's seconds over variant's: above 1 the variant is faster."""
        return float(np.median(self.of(0) / self.of(1)))


def verify(
    original: Variant, variant: Variant, examples: Examples, *, batch_size: int, latency_examples: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is measured of the two: `examples`, `accuracy` and `macro_f1` (None without labels), `agreement`, `kl`
    (KL(original ‖ variant), nats a row), `latency` of single examples and `examples_per_second` in batches. The
    variant's `faster_than_torch` is the median, over the single examples, of how many times as long the original takes
    for the same one; `faster_in_batches` the same of the batches.

    `agreement` is the share of rows in which both decide the same; where a number is predicted, R² of the variant's
    numbers for the original's. Of a model that writes, rows are the tokens of the texts and decisions its likeliest
    next tokens.
    """
    compared = _Compared(classes=original.kind == CLASSIFIER and not _predicts_number(original))
    batches = Seconds()
    order = sorted(range(len(examples)), key=lambda i: len(examples.ids[i]))  # like lengths together: little padding
    parts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    both = (original, variant)
    _warm(both, examples.ids)
    for number, part in enumerate(parts):
        found, seconds = _in_turn(both, [examples.ids[i] for i in part], first=number % 2)
        batches.pairs.append(seconds)
        batches.rows += len(part)
        compared.add(found[0], found[1], [examples.ids[i] for i in part], original)
    single = _singly(both, examples.ids[:latency_examples])
    labels = None if examples.labels is None else examples.labels[order]
    results = []
    for which, model in enumerate(both):
        results.append(
            {
                "examples": len(examples),
                **compared.judged(which, labels, model),
                "latency": {
                    "p50_ms": 1000 * float(np.percentile(single.of(which), 50)),
                    "p95_ms": 1000 * float(np.percentile(single.of(which), 95)),
                },
                "examples_per_second": batches.rows / float(batches.of(which).sum()),
                "faster_than_torch": single.ratio if which else 1.0,
                "faster_in_batches": batches.ratio if which else 1.0,
            }
        )
    return results[0], results[1]


def _predicts_number(variant: Variant) -> bool:
    return variant.task is not None and variant.task.is_regression


def _warm(both: Sequence[Variant], ids: Sequence[Sequence[int]]) -> None:
    for row in ids[:WARM]:
        for model in both:
            model.forward(*model.padded([row]))


def _singly(both: tuple[Variant, Variant], ids: Sequence[Sequence[int]]) -> Seconds:
    single = Seconds(rows=len(ids))
    for number, row in enumerate(ids):
        single.pairs.append(_in_turn(both, [row], first=number % 2)[1])
    return single


def _in_turn(
    both: tuple[Variant, Variant], ids: Sequence[Sequence[int]], *, first: int
) -> tuple[list[Floats], tuple[float, float]]:
    """The logits of both for the same rows, and the seconds of each; `first` goes first."""
    inputs = both[0].padded(ids)
    logits: list[Any] = [None, None]
    seconds = [0.0, 0.0]
    for which in (first, 1 - first):
        began = time.perf_counter()
        logits[which] = both[which].forward(*inputs)
        seconds[which] = time.perf_counter() - began
    return logits, (seconds[0], seconds[1])


@dataclass
class _Compared:
    """What both said of each row: the decisions (of a classifier its probabilities too), or the numbers."""

    classes: bool
    said: tuple[list[NDArray[Any]], list[NDArray[Any]]] = field(default_factory=lambda: ([], []))
    same: int = 0
    rows: int = 0
    kl: float = 0.0

    def add(self, theirs: Floats, ours: Floats, ids: Sequence[Sequence[int]], original: Variant) -> None:
        """Raises ValueError for logits that are not finite: every comparison with them would be void."""
        for who, logits in (("the original's", theirs), ("its", ours)):
            if not np.isfinite(logits).all():
                raise ValueError(f"{who} logits are not finite, so nothing can be compared")
        if original.kind != CLASSIFIER:
            rows = [(theirs[b, : len(row)], ours[b, : len(row)]) for b, row in enumerate(ids)]
        else:
            rows = [(theirs, ours)]
            for kept, logits in zip(self.said, (theirs, ours), strict=True):
                kept.append(np.exp(log_softmax(logits)) if self.classes else logits[:, 0])
        for p_NV, q_NV in rows:
            self.rows += len(p_NV)
            self.same += int((p_NV.argmax(-1) == q_NV.argmax(-1)).sum())
            p, q = log_softmax(p_NV), log_softmax(q_NV)
            self.kl += float((np.exp(p) * (p - q)).sum(dtype=np.float64))

    def judged(self, which: int, labels: NDArray[Any] | None, model: Variant) -> dict[str, Any]:
        """Accuracy, agreement and KL of the original (`which` 0) or the variant (1)."""
        told: dict[str, Any] = {"accuracy": None, "macro_f1": None}
        if labels is not None and self.classes:
            from kdlab.metrics.classification import classification_metrics

            assert model.task is not None
            found = classification_metrics(np.concatenate(self.said[which]), labels, model.task.names)
            told = {name: found[name] for name in told}
        if _predicts_number(model):
            theirs, ours = (np.concatenate(kept).astype(np.float64) for kept in self.said)
            if labels is not None:
                errors = (theirs, ours)[which] - labels
                told["rmse"] = float(np.sqrt((errors**2).mean()))
            return told | {"agreement": _explained(theirs, ours) if which else 1.0, "kl": None}
        told["agreement"] = self.same / self.rows if which else 1.0
        return told | {"kl": max(0.0, self.kl / self.rows) if which else 0.0}


def _explained(theirs: NDArray[np.float64], ours: NDArray[np.float64]) -> float:
    """R²: 1 - Σ (variant - original)² / Σ (original - its mean)²; 1 where all is equal."""
    spread, missed = float(((theirs - theirs.mean()) ** 2).sum()), float(((ours - theirs) ** 2).sum())
    if spread == 0.0:
        return 1.0 if missed == 0.0 else 0.0
    return 1.0 - missed / spread
