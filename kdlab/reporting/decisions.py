"""The verdict on a classifier, or on a model that predicts a number: is a gain there, and more than chance?"""

from __future__ import annotations

import math

from kdlab.proportions import Accuracy, between
from kdlab.reporting.accuracy import DECIDED, accuracy_of
from kdlab.reporting.numbers import number, percent
from kdlab.reporting.runs import Run
from kdlab.reporting.stages import TEST, Metric
from kdlab.reporting.wording import MARGIN, Answer, moved, noted, three

PARTS = {"heldout": "the held-out texts", "test": "the hold-out test"}
"""What is judged by, as `data.classes` of run.json names it, and as it is told."""


def majority(run: Run, part: str) -> float | None:
    """The accuracy on "heldout" or "test" of always answering with the commonest class of the training rows: on those
    that were judged, where metrics tell, else on all of the part."""
    for who in ("after", "before", "teacher"):
        found = _of(run, part, who, "majority_accuracy")
        if found is not None:
            return found
    return run.number("data", "classes", "majority", part)


def usual_told(run: Run) -> str:
    """What is to be beaten without reading the text."""
    return "always the mean" if run.text("data", "classes", "kind") == "regression" else "always the commonest class"


def usual(run: Run, metric: Metric) -> str:
    """What that gets by a metric; "" where it is not counted."""
    part = "test" if metric.of_test else "heldout"
    if metric.key in DECIDED:
        return percent(majority(run, part))
    return metric.show(_of(run, part, "after", "mean_rmse")) if metric.key.removeprefix(TEST) == "rmse" else ""


def judged(run: Run) -> str:
    """The part that decides: "test" where it was measured, for the held-out rows may have chosen the checkpoint."""
    return "test" if any(_of(run, "test", "after", key) is not None for key in ("accuracy", "rmse")) else "heldout"


def answer(run: Run) -> Answer:
    """The verdict on a run whose `decides` is true and that measured something after training."""
    part = judged(run)
    for key, told in (("accuracy", _classes), ("rmse", _numbers)):
        after = _of(run, part, "after", key)
        if after is not None:
            if not math.isfinite(after):
                sentence = f"After training {key} is not a number."
                return Answer(tone="bad", headline="The student broke: a metric is not a number", sentence=sentence)
            return told(run, part)
    sentence = "The run wrote no held-out numbers from after training, so nothing can be said."
    return Answer(tone="open", headline="No verdict", sentence=sentence)


def _classes(run: Run, part: str) -> Answer:
    """By accuracy: does the student beat its start and the commonest class, by more than chance gives?"""
    before, after, teacher = (_accuracy(run, part, who) for who in ("before", "after", "teacher"))
    if after is None:
        sentence = "The run does not say over how many texts its accuracy is."
        return Answer(tone="open", headline="No verdict", sentence=sentence)
    commonest = majority(run, part)
    tone, headline = _headline(
        after, before, None if commonest is None else Accuracy(round(commonest * after.count), after.count)
    )
    low, high = after.interval()
    facts = [f"95 % interval {100 * low:.1f}–{100 * high:.1f}"]
    facts += [] if commonest is None else [f"{usual_told(run)}: {percent(commonest)}"]
    told = f"is {percent(after.share)}" if before is None else moved(before.share, after.share, percent)
    parts = [
        f"accuracy {told}{noted(facts)}",
        *_kept(after, teacher, commonest),
        *_moves(run, part, ("macro_f1", "kl")),
    ]
    return Answer(tone=tone, headline=headline, sentence=_where(part, after.count) + "; ".join(parts) + ".")


def _headline(after: Accuracy, before: Accuracy | None, commonest: Accuracy | None) -> tuple[str, str]:
    """Tone and headline by what the student has over its start and over always the commonest class; a gain counts where
    its 95 % interval is above 0."""
    if before is not None and between(after, before)[1] < 0:
        return "bad", "The student lost"
    if commonest is not None and after.share <= commonest.share:
        return "bad", "No better than always the commonest class"
    if before is not None and after.share <= before.share:
        return "bad", "Nothing was gained"
    rivals = [rival for rival in (before, commonest) if rival is not None]
    if not rivals:
        return "open", "Nothing to compare with"
    if any(between(after, rival)[0] <= 0 for rival in rivals):
        return "mixed", "A gain within the noise"
    return "good", "The student gained" if before is not None else "Better than always the commonest class"


def _kept(after: Accuracy, teacher: Accuracy | None, commonest: float | None) -> list[str]:
    """How much of the teacher's accuracy the student has, and of its lead over always the commonest class; and
    whether what is missing could be chance."""
    if teacher is None or not teacher.correct:
        return []
    if after.share == teacher.share:
        return ["its teacher's is the same"]
    low, high = between(after, teacher)
    chance = ["a difference that chance can make"] if low <= 0 <= high else []
    if after.share > teacher.share:
        return [f"that is above its teacher's {percent(teacher.share)}{noted(chance)}"]
    facts = list(chance)
    if commonest is not None and min(teacher.share, after.share) > commonest:
        facts.append(
            f"{percent((after.share - commonest) / (teacher.share - commonest))} of its lead over the commonest class"
        )
    share = percent(after.share / teacher.share)
    return [f"it keeps {share} of the teacher's accuracy, {percent(teacher.share)}{noted(facts)}"]


def _numbers(run: Run, part: str) -> Answer:
    """By the root mean square error beside the start's and that of always answering the training rows' mean."""
    before, after, teacher = (_of(run, part, who, "rmse") for who in ("before", "after", "teacher"))
    mean = _of(run, part, "after", "mean_rmse")
    assert after is not None
    better = None if before is None else (before - after) / max(before, 1e-12)
    if better is not None and better <= -MARGIN:
        tone, headline = "bad", "The student lost"
    elif mean is not None and after >= mean * (1 - MARGIN):
        tone, headline = "bad", "No better than always the mean"
    elif better is not None and better < MARGIN:
        tone, headline = "bad", "Nothing was gained"
    elif better is None and mean is None:
        tone, headline = "open", "Nothing to compare with"
    else:
        tone, headline = "good", "The student gained" if better is not None else "Better than always the mean"
    facts = [] if mean is None else [f"always the mean: {three(mean)}"]
    facts += [] if teacher is None else [f"teacher {three(teacher)}"]
    told = f"is {three(after)}" if before is None else moved(before, after, three)
    parts = [f"the root mean square error {told}{noted(facts)}", *_moves(run, part, ("spearman",))]
    where = _where(part, _of(run, part, "after", "rows"))
    return Answer(tone=tone, headline=headline, sentence=where + "; ".join(parts) + ".")


_TOLD = {"macro_f1": ("macro-F1", percent, ""), "kl": ("KL to the teacher", three, " nats per text")}
_TOLD["spearman"] = ("the rank correlation (Spearman)", three, "")


def _moves(run: Run, part: str, keys: tuple[str, ...]) -> list[str]:
    """What became of these metrics, of those that are there."""
    found = []
    for key in keys:
        title, show, unit = _TOLD[key]
        before, after = (_of(run, part, who, key) for who in ("before", "after"))
        if before is not None and after is not None:
            found.append(f"{title} {moved(before, after, show)}{unit}")
        elif after is not None:
            found.append(f"{title} is {show(after)}{unit}")
    return found


def notes(run: Run) -> list[str]:
    """What to know beside a classifier's numbers, one sentence each."""
    found = []
    if any(accuracy_of(run, who, key) for who in ("after", "before", "teacher") for key in DECIDED):
        found.append(
            "Accuracy with its counts and 95 % interval (Wilson): of this one training, on texts like these. Other "
            "folds or seeds in one report tell how trainings vary."
        )
        found.append("Macro numbers are means over the classes, each counting the same.")
    if _of(run, "heldout", "after", "ece") is not None:
        found.append("ECE is how far confidence and accuracy are apart, over 15 bins of confidence (Guo et al., 2017).")
    if judged(run) == "test":
        found.append("The hold-out test is in no fold and chose nothing.")
    return found


def _where(part: str, rows: float | None) -> str:
    return f"On {PARTS[part]}, " if rows is None else f"On {PARTS[part]} ({number(rows)} texts), "


def _of(run: Run, part: str, who: str, key: str) -> float | None:
    return run.number("metrics", who, *([TEST.rstrip(".")] if part == "test" else []), key)


def _accuracy(run: Run, part: str, who: str) -> Accuracy | None:
    return accuracy_of(run, who, "test.accuracy" if part == "test" else "accuracy")
