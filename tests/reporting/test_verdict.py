"""The verdict says what the numbers say."""

from __future__ import annotations

import math

import pytest

from kdlab.reporting.runs import read
from kdlab.reporting.verdict import answer, gap_closed, kl_gap_closed, nll_gap_closed, notes


def told(write_run, **changes):
    renamed = {key.replace("__", "."): value for key, value in changes.items()}
    found = answer(read(write_run(changes=renamed) / "run.json"))
    return found.tone, found.headline, found.sentence.replace("\N{NO-BREAK SPACE}", " ")


def test_a_gain_gives_both_metrics_before_and_after_and_the_shares_closed(write_run) -> None:
    tone, headline, sentence = told(write_run)
    assert (tone, headline) == ("good", "The student gained")
    assert sentence == (
        "On 2,048 held-out tokens, KL to the teacher fell from 10 to 2 nats per token (80.0 % of the gap closed); "
        "perplexity fell from 268,337 to 90.0 (teacher 12.2, 80.0 % of the gap in nats closed); "
        "the student puts the teacher's first token first on 26.0 % of them (0.0 % before)."
    )


def test_a_loss_a_mixture_and_a_standstill(write_run) -> None:
    worse = {"metrics.after.kl": 11.0, "metrics.after.nll": 13.0, "metrics.after.perplexity": math.exp(13.0)}
    run = answer(read(write_run("worse", worse) / "run.json"))
    assert (run.tone, run.headline) == ("bad", "The student lost")
    assert "rose from 10 to 11" in run.sentence
    assert "gap closed" not in run.sentence
    run = answer(read(write_run("mixed", {"metrics.after.kl": 11.0}) / "run.json"))
    assert (run.tone, run.headline) == ("mixed", "A mixed result")
    same = {"metrics.after.kl": 9.99, "metrics.after.nll": 12.499, "metrics.after.perplexity": math.exp(12.499)}
    run = answer(read(write_run("same", same) / "run.json"))
    assert (run.tone, run.headline) == ("bad", "Nothing was gained")
    assert "fell from 10 to 9.99 nats per token (by less than 1 %)" in run.sentence
    assert "gap" not in run.sentence


def apart(before: float, after: float, *, bits: tuple[float, float]) -> dict:
    """The numbers of a cross-tokenizer run, whose perplexity went from `before` to `after`."""
    stages = (("before", before, bits[0]), ("after", after, bits[1]))
    found = {
        f"metrics.{who}": {"rows": 9, "nll": math.log(value), "perplexity": value, "bits_per_byte": each}
        for who, value, each in stages
    }
    return found | {"metrics.teacher": {"nll": 2.0, "perplexity": 7.4, "bits_per_byte": 0.9}}


@pytest.mark.parametrize(
    ("numbers", "headline", "told_so"),
    [
        (
            apart(358, 351, bits=(1.664, 1.657)),
            "The student gained",
            "perplexity fell from 358 to 351; bits per byte stayed at 1.66 (teacher 0.900)",
        ),
        (apart(259.1, 259.2, bits=(1.60, 1.60)), "Nothing was gained", "perplexity stayed at 259; bits"),
        (apart(358, 356, bits=(1.66, 1.65)), "Nothing was gained", "fell from 358 to 356 (by less than 1 %); bits"),
        (apart(10.0, 10.001, bits=(1.6, 1.6)), "Nothing was gained", "perplexity stayed at 10.0; bits"),
        (apart(300, 200, bits=(1.6, 1.7)), "A mixed result", "bits per byte rose from 1.60 to 1.70"),
    ],
)
def test_the_headline_fits_the_numbers_as_they_are_shown(write_run, numbers, headline: str, told_so: str) -> None:
    found = answer(read(write_run(changes=numbers) / "run.json"))
    assert found.headline == headline
    assert told_so in found.sentence


def test_a_score_that_stayed_is_said_once(write_run) -> None:
    scores = {f"metrics.{who}.generation": {"examples": 2, "rougeL": 0.0} for who in ("before", "after")}
    found = answer(read(write_run(changes=scores) / "run.json"))
    assert "ROUGE-L of its answers stayed at 0.0." in found.sentence


@pytest.mark.parametrize(("same", "own"), [(False, True), (True, False), (None, False)])
def test_tokenizers_of_their_own_are_told_only_where_the_run_says_so(write_run, cross, same, own: bool) -> None:
    said = notes(read(write_run(changes=cross | {"models.student.teachers_tokenizer": same}) / "run.json"))
    assert any("tokenizers of their own" in note for note in said) == own
    assert any(note.startswith("Bits per byte compare") for note in said) != own


def test_a_student_that_broke_is_no_gain(write_run) -> None:
    tone, headline, _ = told(write_run, metrics__after__kl=math.nan)
    assert tone == "bad"
    assert "not a number" in headline


def test_a_student_better_than_its_teacher(write_run) -> None:
    _, _, sentence = told(write_run, metrics__after__nll=2.0, metrics__after__perplexity=math.exp(2.0))
    assert "the student is now below its teacher" in sentence


def test_without_a_teacher_the_perplexity_speaks_alone(write_run) -> None:
    alone = {"rows": 10, "nll": 4.0, "perplexity": math.exp(4.0)}
    changes = {
        "metrics": {"teacher": None, "before": alone | {"nll": 5.0, "perplexity": math.exp(5.0)}, "after": alone}
    }
    tone, _, sentence = told(write_run, **changes)
    assert tone == "good"
    assert sentence == "On 10 held-out tokens, perplexity fell from 148 to 54.6."


def test_no_verdict_before_the_end(write_run) -> None:
    tone, headline, sentence = told(write_run, status="running", metrics__after=None)
    assert (tone, headline) == ("open", "No verdict yet")
    assert "last step written: 4" in sentence


def test_a_failure_says_why(write_run) -> None:
    tone, headline, sentence = told(write_run, status="failed", metrics__after=None, error="step 3: the loss is nan")
    assert (tone, headline, sentence) == ("bad", "The run failed", "step 3: the loss is nan")


@pytest.mark.parametrize(
    ("numbers", "share"),
    [
        ((10.0, 2.0, 0.0), 0.8), ((10.0, 12.0, 0.0), -0.2), ((3.0, 1.0, 2.0), 2.0), ((2.0, 1.0, 3.0), None),
        ((None, 1.0, 0.0), None), ((math.inf, 1.0, 0.0), None),
    ],
)  # fmt: skip
def test_the_share_of_the_gap(numbers: tuple, share: float | None) -> None:
    assert gap_closed(*numbers) == (None if share is None else pytest.approx(share))


def test_shares_of_a_run(write_run) -> None:
    run = read(write_run() / "run.json")
    assert kl_gap_closed(run) == pytest.approx((10 - 2) / 10)
    assert nll_gap_closed(run) == pytest.approx((12.5 - 4.5) / (12.5 - 2.5))
