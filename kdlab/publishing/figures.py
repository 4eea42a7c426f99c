"""The numbers of a card as text: of one run, or of several with their 95 % interval.

Several runs: mean ± t(n - 1) · sd · √(1/n), over seeds. Folds train on the same rows for the most part, so their
results are not independent, and √(1/n) is too little: it is √(1/n + n_test / n_train), which for k folds is
√(1/n + 1/(k - 1)) (Nadeau and Bengio, 2003). Seeds of one fold share all its rows: their mean is one of the n.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kdlab.proportions import Accuracy
from kdlab.publishing.records import Told

NONE = "–"
STAGES = (("before", "student before"), ("after", "student after"), ("teacher", "teacher"))
PARTS = (("test", "test rows, read only at the end"), (None, "held-out rows"))
"""Where under `metrics.<stage>` the numbers of a part lie, and what the part is."""


def plain(value: float | None, digits: int = 4) -> str:
    """So many significant digits, without an exponent where it can be read without."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return "not finite"
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        decimals = 0 if value == 0 else max(0, digits - 1 - math.floor(math.log10(abs(value))))
        return f"{value:,.{min(decimals, 8)}f}"
    return f"{value:.{digits - 1}e}"


def percent(value: float | None) -> str:
    return plain(value) if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def score(value: float | None) -> str:
    return plain(value) if value is None or not math.isfinite(value) else f"{value:.1f}"


def size(count: float | None) -> str:
    """Bytes in decimal units: 538.1 MB."""
    if count is None:
        return NONE
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{int(count)} bytes"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number of run.json: `key` below the part's, its `title`, how it is shown; `hub` is its name in the header of a
    card (None: not there). A `share` of independent rows has an interval of its own."""

    key: str
    title: str
    show: Callable[[float | None], str] = plain
    hub: str | None = None
    share: bool = False

    def of(self, run: Told, stage: str, part: str | None) -> float | None:
        """What `stage` measured. An accuracy of written answers is kept as its counts."""
        at = ("metrics", stage, *([part] if part else ()), *self.key.split("."))
        counts = run.number(*at, "correct"), run.number(*at, "count")
        if counts[0] is not None and counts[1]:
            return counts[0] / counts[1]
        return run.number(*at)


FIGURES = (
    Figure(key="accuracy", title="accuracy", show=percent, hub="accuracy", share=True),
    Figure(key="majority_accuracy", title="accuracy of always the commonest class", show=percent),
    Figure(key="macro_f1", title="macro F1", show=percent, hub="f1"),
    Figure(key="weighted_f1", title="weighted F1", show=percent),
    Figure(key="ece", title="calibration error (ECE)", show=percent),
    Figure(key="rmse", title="RMSE", hub="rmse"),
    Figure(key="mean_rmse", title="RMSE of always the mean"),
    Figure(key="mae", title="MAE", hub="mae"),
    Figure(key="pearson", title="Pearson r", hub="pearsonr"),
    Figure(key="spearman", title="Spearman r", hub="spearmanr"),
    Figure(key="r2", title="R²"),
    Figure(key="kl", title="KL(teacher ‖ student), nats"),
    Figure(key="perplexity", title="perplexity", hub="perplexity"),
    Figure(key="nll", title="log-loss, nats"),
    Figure(key="top1_agreement", title="same first choice as the teacher", show=percent),
    Figure(key="bits_per_byte", title="bits per byte"),
    Figure(key="generation.accuracy", title="accuracy of written answers", show=percent, hub="accuracy"),
    Figure(key="generation.rougeL", title="ROUGE-L of written answers", show=score, hub="rougeL"),
    Figure(key="generation.bleu", title="BLEU of written answers", show=score, hub="bleu"),
    Figure(key="generation.chrf", title="chrF of written answers", show=score, hub="chrf"),
    Figure(key="latency.p50_ms", title="latency of one example, median ms"),
    Figure(key="latency.p95_ms", title="latency of one example, 95th percentile ms"),
)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """`n` runs: their mean, and half the width of its 95 % interval (None of one run)."""

    n: int
    mean: float
    half_width: float | None


def spread(values: Sequence[float], *, folds: int | None = None) -> Spread:
    """Of runs that differ in their seed, or, where `folds` says of how many, in the fold that they leave out."""
    from scipy.stats import t

    n, mean = len(values), statistics.fmean(values)
    if n == 1 or not math.isfinite(mean):
        return Spread(n=n, mean=mean, half_width=None)
    shared = 0.0 if folds is None else 1 / (folds - 1)
    half_width = float(t.ppf(0.975, n - 1)) * statistics.stdev(values) * math.sqrt(1 / n + shared)
    return Spread(n=n, mean=mean, half_width=half_width)


def folds_of(runs: Sequence[Told]) -> int | None:
    """How many folds there are, where these runs differ in the one that they leave out."""
    left_out = {run.value("config", "dataset", "fold") for run in runs}
    return None if len(left_out) < 2 else int(runs[0].record["config"]["dataset"]["folds"])


def repeats(figure: Figure, runs: Sequence[Told], stage: str, part: str | None) -> list[float]:
    """What counts as one repeat each: a run, or, where there are several folds, a fold, with the mean of its seeds."""
    found: dict[Any, list[float]] = {}
    by_fold = folds_of(runs) is not None
    for place, run in enumerate(runs):
        if (value := figure.of(run, stage, part)) is not None:
            found.setdefault(run.value("config", "dataset", "fold") if by_fold else place, []).append(value)
    return [statistics.fmean(values) for values in found.values()]


def cell(figure: Figure, runs: Sequence[Told], stage: str, part: str | None) -> str:
    """The number of these runs as a cell of a table; of one run, a share of rows has Wilson's interval."""
    known = [value for run in runs if (value := figure.of(run, stage, part)) is not None]
    if not known:
        return NONE
    told = spread(repeats(figure, runs, stage, part), folds=folds_of(runs))
    if told.half_width is not None:
        missing = "" if len(known) == len(runs) else f" ({len(known)} of {len(runs)} runs)"
        return f"{figure.show(told.mean)} ± {figure.show(told.half_width)}{missing}"
    rows = runs[0].number("metrics", stage, *([part] if part else ()), "rows")
    if not figure.share or not rows or not 0 <= told.mean <= 1:
        return figure.show(told.mean)
    low, high = Accuracy(round(told.mean * rows), int(rows)).interval()
    return f"{figure.show(told.mean)} ({100 * low:.1f} to {100 * high:.1f})"


def measured(runs: Sequence[Told], part: str | None) -> list[Figure]:
    """The figures that any of these runs has a number of."""
    return [
        figure
        for figure in FIGURES
        if any(figure.of(run, stage, part) is not None for run in runs for stage, _ in STAGES)
    ]
