"""Written answers against hand-computed scores."""

from __future__ import annotations

import statistics

import pytest

from kdlab.metrics.generation import PACKAGES, score
from kdlab.training.recipe import GENERATION_METRICS

rouge = pytest.importorskip("rouge_score")
sacrebleu = pytest.importorskip("sacrebleu")


def test_rouge_of_a_case_counted_by_hand() -> None:
    # 3 of 5 written words are among the reference's 4: precision 3/5, recall 3/4. One shared pair: "cat sat", of 4
    # and of 3. Longest common subsequence: the cat sat.
    found = score(["the big cat sat here"], ["the cat sat down"], metrics=["rouge"]).corpus
    assert found["rouge1"] == pytest.approx(100 * 2 * (3 / 5) * (3 / 4) / (3 / 5 + 3 / 4))
    assert found["rouge2"] == pytest.approx(100 * 2 * (1 / 4) * (1 / 3) / (1 / 4 + 1 / 3))
    assert found["rougeL"] == found["rouge1"]
    assert found["words"] == 5


def test_word_endings_do_not_count() -> None:
    assert score(["training models"], ["trained model"], metrics=["rouge"]).corpus["rouge2"] == pytest.approx(100)


def test_bleu_of_the_corpus_is_not_the_mean_of_its_sentences() -> None:
    written = ["a b c d e f", "x y z w v"]
    references = ["a b c d e f", "p q r s t"]
    found = score(written, references, metrics=["bleu"])
    assert [example["bleu"] for example in found.examples] == pytest.approx([100, 0], abs=10)
    # Matches over counts of 1 to 4 words: 6/11, 5/9, 4/7, 3/5; lengths are equal, so no brevity penalty.
    expected = 100 * (6 / 11 * 5 / 9 * 4 / 7 * 3 / 5) ** 0.25
    assert found.corpus["bleu"] == pytest.approx(expected)


def test_equal_texts_score_100_and_strangers_0() -> None:
    names = ["rouge1", "rouge2", "rougeL", "bleu", "chrf"]
    same = score(["one two three four"] * 2, ["one two three four"] * 2, metrics=[*PACKAGES])
    assert [same.corpus[name] for name in names] == pytest.approx([100] * 5)
    other = score(["", "zzz"], ["one two three four"] * 2, metrics=[*PACKAGES])
    assert [other.corpus[name] for name in names] == pytest.approx([0] * 5, abs=1e-6)
    assert other.corpus["words"] == 0.5


def test_scores_of_examples_come_in_order() -> None:
    found = score(["a", "b c", "d"], ["d", "b c", "d"], metrics=["rouge", "chrf"])
    assert [example["rougeL"] for example in found.examples] == [0, 100, 100]
    assert found.corpus["rougeL"] == pytest.approx(statistics.fmean([0, 100, 100]))
    assert set(found.examples[0]) == {"rouge1", "rouge2", "rougeL", "chrf"}


def test_a_script_that_rouge_does_not_read_is_refused_and_chrf_reads_it() -> None:
    with pytest.raises(ValueError, match=r"metrics=\[chrf\]"):
        score(["猫が座った"], ["猫が座った"], metrics=["rouge"])
    assert score(["猫が座った"], ["猫が座った"], metrics=["chrf"]).corpus["chrf"] == pytest.approx(100)


def test_nothing_to_judge_is_said() -> None:
    with pytest.raises(ValueError, match="no held-out example"):
        score([], [], metrics=["rouge"])


def test_every_metric_of_the_options_is_computed_by_a_package() -> None:
    assert set(PACKAGES) | {"accuracy"} == set(GENERATION_METRICS)
