"""What a run measured on held-out data: the student before and after training, and its teacher."""

from __future__ import annotations

from collections.abc import Callable

from kdlab.reporting.numbers import number, percent
from kdlab.reporting.runs import Run

Show = Callable[[float | None], str]

STAGES = (("before", "before"), ("after", "after"), ("teacher", "teacher"))
METRICS: tuple[tuple[str, str, Show], ...] = (
    ("kl", "KL to the teacher (nats)", number),
    ("perplexity", "perplexity", number),
    ("nll", "log-loss (nats)", number),
    ("top1_agreement", "top-1 agreement", percent),
)
"""The held-out metrics, their titles, and how to write their numbers. Log-loss is -log q(token), the log of the
perplexity; top-1 agreement is how often student and teacher put the same token first."""


def stage(run: Run, who: str, metric: str) -> float | None:
    """A held-out metric of "before", "after" or "teacher"; the teacher's distance to itself is 0."""
    found = run.number("metrics", who, metric)
    if who == "teacher" and found is None and run.value("metrics", "teacher") is not None:
        return {"kl": 0.0, "top1_agreement": 1.0}.get(metric)
    return found
