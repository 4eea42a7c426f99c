"""Was anything gained? One run's answer in words, with the numbers that carry it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kdlab.reporting.accuracy import accuracy_note
from kdlab.reporting.numbers import number, percent, points
from kdlab.reporting.runs import Run
from kdlab.reporting.stages import METRICS, Metric, Show, measured_apart

MARGIN = 0.01
"""A change of less than 1 % is told as such, and is neither gain nor loss."""
JUDGED = ("kl", "perplexity", "bits_per_byte")
"""What decides: all of these that a run has, and no other, so that the headline fits the numbers told."""
_DRAWS = "The teacher told of draws from its predictions: the KL is an unbiased estimate, exact only on average."
KL_IS = {
    "lower bound": "The teacher told of its most likely tokens: the KL counts all others as one, and is a lower bound.",
    "unbiased estimate": _DRAWS,
}
"""What the KL is where it was taken from some of the teacher's predictions only (`kl_is` of its metrics)."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`tone` is good, mixed, bad or open (nothing to judge yet)."""

    tone: str
    headline: str
    sentence: str


def gap_closed(before: float | None, after: float | None, teacher: float | None) -> float | None:
    """(before - after) / (before - teacher): 1 where the student caught up, negative where it fell back.

    None where a number is missing or not finite, or the student was not behind.
    """
    if before is None or after is None or teacher is None or not before > teacher:
        return None
    share = (before - after) / (before - teacher)
    return share if math.isfinite(share) else None


def kl_gap_closed(run: Run) -> float | None:
    """The share of the KL that is gone; the teacher's own is 0."""
    return gap_closed(run.number("metrics", "before", "kl"), run.number("metrics", "after", "kl"), 0.0)


def nll_gap_closed(run: Run) -> float | None:
    """The share of the gap to the teacher that is gone, in nats per token (the log of the perplexity).

    None where the two were measured apart.
    """
    if measured_apart(run):
        return None
    return gap_closed(*(run.number("metrics", who, "nll") for who in ("before", "after", "teacher")))


def closed(run: Run, metric: Metric) -> str:
    """The share of the gap to the teacher that is gone, as text; "" for a metric whose gaps do not add up."""
    if metric.key == "kl":
        return percent(kl_gap_closed(run))
    if metric.key == "nll":
        return percent(nll_gap_closed(run))
    if metric.key in ("perplexity", "top1_agreement", "divergence"):
        return ""
    before, after, teacher = (metric.of(run, who) for who in ("before", "after", "teacher"))
    if metric.lower:
        return percent(gap_closed(before, after, teacher))
    return percent(gap_closed(*(None if value is None else -value for value in (before, after, teacher))))


def answer(run: Run) -> Answer:
    """The verdict on one run."""
    if not run.finished and run.value("metrics", "after") is None:
        if run.failed:
            return Answer(tone="bad", headline="The run failed", sentence=run.text("error") or "It left no reason.")
        return Answer(tone="open", headline="No verdict yet", sentence=f"The run is {run.state}.")
    changes = [_change(run, metric) for metric in JUDGED]
    known = [change for change in changes if change is not None]
    if not known:
        sentence = "The run wrote no held-out numbers from before and after training, so nothing can be said."
        return Answer(tone="open", headline="No verdict", sentence=sentence)
    better = any(change <= -MARGIN for change in known)
    worse = any(change >= MARGIN for change in known)
    tone, headline = {
        (True, False): ("good", "The student gained"),
        (True, True): ("mixed", "A mixed result"),
        (False, True): ("bad", "The student lost"),
        (False, False): ("bad", "Nothing was gained"),
    }[better, worse]
    if any(math.isnan(change) for change in known):
        tone, headline = "bad", "The student broke: a metric is not a number"
    parts = [part for part in (_kl(run), _perplexity(run), _bits(run), _agreement(run), *_scores(run)) if part]
    rows = run.number("metrics", "after", "rows")
    where = f"On {number(rows)} held-out tokens, " if rows is not None else "On held-out data, "
    return Answer(tone=tone, headline=headline, sentence=where + "; ".join(parts) + ".")


def _change(run: Run, metric: str) -> float | None:
    """(after - before) / |before| of a metric where lower is better; nan where after is."""
    before, after = (run.number("metrics", who, metric) for who in ("before", "after"))
    if before is None or after is None:
        return None
    if before == after:
        return 0.0
    if math.isinf(before):
        return -1.0 if math.isfinite(after) else math.nan
    return (after - before) / max(abs(before), 1e-12)


def _moved(before: float, after: float, show: Show) -> str:
    """What became of a number, by how it is shown: "fell from 10 to 2", "stayed at 1.66"."""
    was, is_now = show(before), show(after)
    if _plain(was) == _plain(is_now):
        return f"stayed at {is_now}"
    verb = "fell" if after < before else "rose" if after > before else "went"
    return f"{verb} from {was} to {is_now}"


def _plain(shown: str) -> str:
    """A whole number is shown without decimals: 10 is 10.0."""
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def _three(value: float | None) -> str:
    return number(value, digits=3)


def _little(run: Run, metric: str) -> list[str]:
    """The note on a change that is shown, and counts for nothing."""
    change = _change(run, metric)
    before, after = (run.number("metrics", who, metric) for who in ("before", "after"))
    if change is None or before is None or after is None or not abs(change) < MARGIN:
        return []
    return [] if _moved(before, after, _three).startswith("stayed") else [f"by less than {number(100 * MARGIN)} %"]


def _noted(notes: list[str]) -> str:
    return f" ({', '.join(notes)})" if notes else ""


def _kl(run: Run) -> str:
    before, after = (run.number("metrics", who, "kl") for who in ("before", "after"))
    if before is None or after is None:
        return ""
    share = kl_gap_closed(run)
    notes = _little(run, "kl")
    if not notes and share is not None and share >= MARGIN:
        notes = [f"{percent(share)} of the gap closed"]
    return f"KL to the teacher {_moved(before, after, _three)} nats per token{_noted(notes)}"


def _perplexity(run: Run) -> str:
    before, after = (run.number("metrics", who, "perplexity") for who in ("before", "after"))
    if before is None or after is None:
        return ""
    teacher, share = run.number("metrics", "teacher", "perplexity"), nll_gap_closed(run)
    if measured_apart(run):
        teacher = None
    change, notes = _change(run, "perplexity"), _little(run, "perplexity")
    little = change is not None and abs(change) < MARGIN
    notes += [f"teacher {_three(teacher)}"] if teacher is not None else []
    if teacher is not None and after < teacher:
        notes.append("the student is now below its teacher")
    elif share is not None and share > 0 and not little:
        notes.append(f"{percent(share)} of the gap in nats closed")
    return f"perplexity {_moved(before, after, _three)}{_noted(notes)}"


def _agreement(run: Run) -> str:
    before, after = (run.number("metrics", who, "top1_agreement") for who in ("before", "after"))
    if before is None or after is None:
        return ""
    return f"the student puts the teacher's first token first on {percent(after)} of them ({percent(before)} before)"


def _bits(run: Run) -> str:
    before, after, teacher = (run.number("metrics", who, "bits_per_byte") for who in ("before", "after", "teacher"))
    if before is None or after is None:
        return ""
    notes = _little(run, "bits_per_byte") + ([f"teacher {_three(teacher)}"] if teacher is not None else [])
    return f"bits per byte {_moved(before, after, _three)}{_noted(notes)}"


def _scores(run: Run) -> list[str]:
    """What became of the scores of written answers, the main ones."""
    parts = []
    for metric in METRICS:
        before, after, teacher = (metric.of(run, who) for who in ("before", "after", "teacher"))
        if metric.minor or not metric.key.startswith("generation.") or before is None or after is None:
            continue
        told = f" (teacher {metric.show(teacher)})" if teacher is not None else ""
        parts.append(f"{metric.short} of its answers {_moved(before, after, metric.show)}{told}")
    return parts


def notes(run: Run) -> list[str]:
    """What to know beside the numbers, one sentence each."""
    found = []
    aligned = run.number("metrics", "after", "aligned") or run.number("metrics", "before", "aligned")
    if measured_apart(run):
        if run.value("models", "student", "teachers_tokenizer") is False:
            found.append(
                "Teacher and student have tokenizers of their own: bits per byte compare, numbers per token do not."
            )
        else:
            found.append("Bits per byte compare models whatever their tokenizers.")
        if aligned is not None:
            found.append(f"{percent(aligned)} of the student's rows lie in spans that both models read alike.")
    cut = [run.number("metrics", "after", f"{who}_cut_mass") for who in ("teacher", "student")]
    if cut[0] is not None:
        found.append(
            f"{percent(cut[0])} of the teacher's probability and {percent(cut[1])} of the student's lay on tokens that "
            "the other does not have, and were cut away before they were compared."
        )
    if kl_is := run.text("metrics", "after", "kl_is"):
        found.append(KL_IS[kl_is])
    answered = run.number("metrics", "after", "generation", "examples")
    scored = any(metric.of(run, "after") is not None for metric in METRICS if metric.show is points)
    if answered is not None and scored:
        found.append(f"Scores from 0 to 100 over {number(answered)} written answers, each kept in generations.jsonl.")
    if told := accuracy_note(run):
        found.append(told)
    return found
