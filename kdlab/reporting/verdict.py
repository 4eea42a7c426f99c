"""Was anything gained? One run's answer in words, with the numbers that carry it."""

from __future__ import annotations

import math

from kdlab.reporting import decisions
from kdlab.reporting.accuracy import accuracy_note
from kdlab.reporting.numbers import number, percent, points
from kdlab.reporting.runs import Run
from kdlab.reporting.stages import METRICS, STAGES, Metric, measured, measured_apart
from kdlab.reporting.wording import MARGIN, Answer, changed, gap_closed, moved, noted, three

__all__ = ["Answer", "answer", "closed", "gap_closed", "kl_gap_closed", "nll_gap_closed", "notes"]

JUDGED = ("kl", "perplexity", "bits_per_byte")
"""What decides: all of these that a run has, and no other, so that the headline fits the numbers told."""
_DRAWS = "The teacher told of draws from its predictions: the KL is an unbiased estimate, exact only on average."
KL_IS = {
    "lower bound": "The teacher told of its most likely tokens: the KL counts all others as one, and is a lower bound.",
    "unbiased estimate": _DRAWS,
}
"""What the KL is where it was taken from some of the teacher's predictions only (`kl_is` of its metrics)."""


NO_GAP = ("perplexity", "top1_agreement", "divergence", "ece", "test.ece", "test.top1_agreement")
"""Metrics whose gaps do not add up, or where the teacher is no goal: it may be the worse calibrated."""


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
    if metric.key in NO_GAP:
        return ""
    before, after, teacher = (metric.of(run, who) for who in ("before", "after", "teacher"))
    if metric.lower:
        return percent(gap_closed(before, after, teacher))
    return percent(gap_closed(*(None if value is None else -value for value in (before, after, teacher))))


def stage_cells(run: Run) -> tuple[list[str], list[list[str]]]:
    """The head and rows of one run's table as text: a row a metric, before, after and the teacher beside each other."""
    usual = [decisions.usual_told(run)] if run.decides else []
    head = ["", *(title for _, title in STAGES), *usual, "gap closed"]
    rows = []
    for metric in measured([run]):
        told = [metric.told(run, who) for who, _ in STAGES]
        told += [decisions.usual(run, metric)] if run.decides else []
        rows.append([metric.title, *told, closed(run, metric)])
    return head, rows


def answer(run: Run) -> Answer:
    """The verdict on one run."""
    if not run.finished and run.value("metrics", "after") is None:
        if run.failed:
            return Answer(tone="bad", headline="The run failed", sentence=run.text("error") or "It left no reason.")
        return Answer(tone="open", headline="No verdict yet", sentence=f"The run is {run.state}.")
    if run.decides:
        return decisions.answer(run)
    changes = [changed(run, metric) for metric in JUDGED]
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


def _little(run: Run, metric: str) -> list[str]:
    """The note on a change that is shown, and counts for nothing."""
    change = changed(run, metric)
    before, after = (run.number("metrics", who, metric) for who in ("before", "after"))
    if change is None or before is None or after is None or not abs(change) < MARGIN:
        return []
    return [] if moved(before, after, three).startswith("stayed") else [f"by less than {number(100 * MARGIN)} %"]


def _kl(run: Run) -> str:
    before, after = (run.number("metrics", who, "kl") for who in ("before", "after"))
    if before is None or after is None:
        return ""
    share = kl_gap_closed(run)
    notes = _little(run, "kl")
    if not notes and share is not None and share >= MARGIN:
        notes = [f"{percent(share)} of the gap closed"]
    return f"KL to the teacher {moved(before, after, three)} nats per token{noted(notes)}"


def _perplexity(run: Run) -> str:
    before, after = (run.number("metrics", who, "perplexity") for who in ("before", "after"))
    if before is None or after is None:
        return ""
    teacher, share = run.number("metrics", "teacher", "perplexity"), nll_gap_closed(run)
    if measured_apart(run):
        teacher = None
    change, notes = changed(run, "perplexity"), _little(run, "perplexity")
    little = change is not None and abs(change) < MARGIN
    notes += [f"teacher {three(teacher)}"] if teacher is not None else []
    if teacher is not None and after < teacher:
        notes.append("the student is now below its teacher")
    elif share is not None and share > 0 and not little:
        notes.append(f"{percent(share)} of the gap in nats closed")
    return f"perplexity {moved(before, after, three)}{noted(notes)}"


def _agreement(run: Run) -> str:
    before, after = (run.number("metrics", who, "top1_agreement") for who in ("before", "after"))
    if before is None or after is None:
        return ""
    return f"the student puts the teacher's first token first on {percent(after)} of them ({percent(before)} before)"


def _bits(run: Run) -> str:
    before, after, teacher = (run.number("metrics", who, "bits_per_byte") for who in ("before", "after", "teacher"))
    if before is None or after is None:
        return ""
    notes = _little(run, "bits_per_byte") + ([f"teacher {three(teacher)}"] if teacher is not None else [])
    return f"bits per byte {moved(before, after, three)}{noted(notes)}"


def _scores(run: Run) -> list[str]:
    """What became of the scores of written answers, the main ones."""
    parts = []
    for metric in METRICS:
        before, after, teacher = (metric.of(run, who) for who in ("before", "after", "teacher"))
        if metric.minor or not metric.key.startswith("generation.") or before is None or after is None:
            continue
        told = f" (teacher {metric.show(teacher)})" if teacher is not None else ""
        parts.append(f"{metric.short} of its answers {moved(before, after, metric.show)}{told}")
    return parts


def notes(run: Run) -> list[str]:
    """What to know beside the numbers, one sentence each."""
    found = decisions.notes(run) if run.decides else []
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
