"""What a run measured on held-out data: the student before and after training, and its teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from kdlab.reporting import accuracy
from kdlab.reporting.numbers import number, percent, points
from kdlab.reporting.runs import Run

Show = Callable[[float | None], str]

STAGES = (("before", "before"), ("after", "after"), ("teacher", "teacher"))


class Metric(NamedTuple):
    """A held-out metric: where it lies under `metrics.<stage>` of run.json, its title, a shorter one, how its numbers
    are written, whether lower is better, and whether tables of many runs leave it out (`minor`)."""

    key: str
    title: str
    short: str
    show: Show
    lower: bool = True
    minor: bool = False

    def of(self, run: Run, who: str) -> float | None:
        """What "before", "after" or "teacher" measured; the teacher's distance to itself is 0."""
        if self.key == accuracy.KEY:
            counted = accuracy.accuracy_of(run, who)
            return None if counted is None else counted.share
        if self.key == "perplexity" and run.decides:
            return None  # of classes it says nothing that the log-loss does not
        found = run.number("metrics", who, *self.key.split("."))
        measured = run.value("metrics", "teacher") is not None
        # A teacher that was measured apart was never compared token by token.
        if who == "teacher" and found is None and measured and self.key in _TO_ITSELF and not measured_apart(run):
            return _TO_ITSELF[self.key]
        return found

    def told(self, run: Run, who: str) -> str:
        """The number as text; an accuracy with its counts and interval."""
        if self.key in (accuracy.KEY, *accuracy.DECIDED):
            counted = accuracy.accuracy_of(run, who, self.key)
            return self.show(self.of(run, who)) if counted is None else accuracy.told(counted)
        return self.show(self.of(run, who))

    def curve(self, run: Run) -> tuple[list[float], list[float]]:
        """The held-out values over steps; those from before and after training end the line where it lacks them."""
        x, y = run.curve(self.key, phase="heldout")
        before, after, steps = self.of(run, "before"), self.of(run, "after"), run.number("steps")
        if before is not None and (not x or x[0] > 0):
            x, y = [0.0, *x], [before, *y]
        if after is not None and steps and x[-1:] != [float(steps)]:
            x, y = [*x, float(steps)], [*y, after]
        return x, y

    @property
    def of_test(self) -> bool:
        """Whether it is measured on the hold-out test, at the end alone."""
        return self.key.startswith(TEST)


TEST = "test."
_TO_ITSELF = {"kl": 0.0, "top1_agreement": 1.0, "test.kl": 0.0, "test.top1_agreement": 1.0}
CORE = (
    Metric("kl", "KL to the teacher (nats)", "KL (nats)", number),
    Metric("perplexity", "perplexity", "perplexity", number),
    Metric("nll", "log-loss (nats)", "log-loss", number),
    Metric("top1_agreement", "top-1 agreement", "top-1 agreement", percent, lower=False),
)
DECISIONS = (
    Metric("accuracy", "accuracy", "accuracy", percent, lower=False),
    Metric("macro_f1", "macro-F1", "macro-F1", percent, lower=False),
    Metric("macro_precision", "macro precision", "macro precision", percent, lower=False, minor=True),
    Metric("macro_recall", "macro recall", "macro recall", percent, lower=False, minor=True),
    Metric("weighted_f1", "weighted F1", "weighted F1", percent, lower=False, minor=True),
    Metric("weighted_precision", "weighted precision", "weighted precision", percent, lower=False, minor=True),
    Metric("ece", "calibration error (ECE)", "ECE", percent),
    Metric("rmse", "root mean square error", "RMSE", number),
    Metric("mae", "mean absolute error", "MAE", number, minor=True),
    Metric("spearman", "rank correlation (Spearman)", "Spearman", number, lower=False),
    Metric("r2", "variance explained (R²)", "R²", number, lower=False, minor=True),
)
"""What classifiers and regressions are judged by. Weighted recall is the accuracy."""
MAIN = ("accuracy", "macro_f1", "rmse", "spearman")
"""Those of `DECISIONS` that tables of many runs show of the hold-out test too."""
METRICS = (
    *CORE,
    *DECISIONS,
    *(
        Metric(TEST + one.key, f"{one.title}, test", f"{one.short}, test", one.show, one.lower, one.key not in MAIN)
        for one in (*DECISIONS, CORE[0], CORE[3])
    ),
    Metric("bits_per_byte", "bits per byte", "bits per byte", number),
    Metric("divergence", "divergence of the loss", "divergence", number, minor=True),
    Metric(accuracy.KEY, "accuracy of written answers", "accuracy", percent, lower=False),
    Metric("generation.rouge1", "ROUGE-1 of written answers", "ROUGE-1", points, lower=False, minor=True),
    Metric("generation.rouge2", "ROUGE-2 of written answers", "ROUGE-2", points, lower=False, minor=True),
    Metric("generation.rougeL", "ROUGE-L of written answers", "ROUGE-L", points, lower=False),
    Metric("generation.bleu", "BLEU of written answers", "BLEU", points, lower=False),
    Metric("generation.chrf", "chrF of written answers", "chrF", points, lower=False),
)
"""The held-out metrics. Log-loss is -log q(token), the log of the perplexity; top-1 agreement is how often student and
teacher put the same token (or class) first; bits per byte compares models with different tokenizers; scores of written
answers against their references run from 0 to 100."""


def measured(runs: Sequence[Run], *, minor: bool = True) -> list[Metric]:
    """The metrics that any of these runs has a number of, those everyone has where there is none yet; what classifiers
    decide comes before how near they are to the teacher."""
    every: Sequence[Metric] = METRICS
    usual: Sequence[Metric] = CORE
    if runs and all(run.decides for run in runs):
        every, usual = (*METRICS[len(CORE) :], *CORE), (*DECISIONS[:2], CORE[0])
    found = [metric for metric in every if any(metric.of(run, who) is not None for run in runs for who in _STUDENT)]
    return [metric for metric in found or usual if minor or not metric.minor]


_STUDENT = ("before", "after")


def rows_told(run: Run) -> str:
    """How many tokens, or texts of a classifier, were judged: "512 held-out texts and 1,038 of the hold-out test"; ""
    where that is not known."""
    rows, tested = (
        next((n for who in _STUDENT if (n := run.number("metrics", who, *part, "rows"))), None)
        for part in ([], ["test"])
    )
    if not run.decides:
        return f"{number(rows)} held-out tokens" if rows else ""
    found = [f"{number(rows)} held-out texts"] if rows else []
    found += [f"{number(tested)} of the hold-out test"] if tested else []
    return " and ".join(found)


def measured_apart(run: Run) -> bool:
    """Whether each model was measured over tokens of its own, as a cross-tokenizer loss pairs them (even two that share
    a tokenizer), so that the teacher's numbers per token do not compare with the student's."""
    return any(run.number("metrics", who, "bits_per_byte") is not None for who in _STUDENT)
