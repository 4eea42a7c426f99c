"""Held-out metrics of two tokenizers, counted by hand on a handful of rows."""

from __future__ import annotations

import math

import pytest
import torch

from kdlab.losses.cross import CROSS_LOSSES
from kdlab.losses.cross.engine import cross_loss
from kdlab.metrics.paired import PairSums, measure_pair
from kdlab.rows import Dense, PairRows, Projected
from kdlab.text.vocabulary import Matched

MATCHED = Matched(student_K=torch.tensor([0, 1, 2]), teacher_K=torch.tensor([2, 0, 1]))
# The student's tokens spell 2, 3 and 1 bytes, the last label is of a template; the teacher's spell 5 and 1.
BYTES_N, BYTES_M = torch.tensor([2, 3, 1, -1]), torch.tensor([5, 1])


def rows(seed: int = 0) -> PairRows:
    draw = torch.Generator().manual_seed(seed)
    return PairRows(
        student=Dense(logits_NV=torch.randn(4, 5, generator=draw, dtype=torch.float64)),
        teacher=Dense(logits_NV=torch.randn(2, 7, generator=draw, dtype=torch.float64)),
        labels_N=torch.tensor([0, 3, 1, 4]),
        teacher_labels_M=torch.tensor([6, 2]),
        student_span_N=torch.tensor([0, 0, 1, -1]),
        teacher_span_M=torch.tensor([0, 1]),
        spans=2,
    )


def measured(given: PairRows, name: str = "uld", **options: object) -> PairSums:
    loss = CROSS_LOSSES[name](**options)
    return measure_pair(given, bytes_N=BYTES_N, bytes_M=BYTES_M, loss=loss, matched=MATCHED)


def test_every_number_from_its_formula() -> None:
    given = rows()
    q, p = (side.logits_NV.log_softmax(-1) for side in (given.student, given.teacher))
    own, theirs = (-log[range(len(log)), labels] for log, labels in ((q, given.labels_N), (p, given.teacher_labels_M)))
    found = measured(given).result()
    assert found["rows"] == 4
    assert found["nll"] == pytest.approx(float(own.mean()))
    assert found["perplexity"] == pytest.approx(math.exp(float(own.mean())))
    assert found["bits_per_byte"] == pytest.approx(float(own[:3].sum()) / math.log(2) / 6), "no template in it"
    assert found["teacher_nll"] == pytest.approx(float(theirs.mean()))
    assert found["teacher_bits_per_byte"] == pytest.approx(float(theirs.sum()) / math.log(2) / 6)
    assert found["aligned"] == 3 / 4
    assert "kl" not in found
    assert "top1_agreement" not in found


@pytest.mark.parametrize("name", ["uld", "uld_hybrid", "span_kl"])
def test_the_divergence_is_the_losss_own_without_its_labels(name: str) -> None:
    given = rows()
    raw = cross_loss(CROSS_LOSSES[name](hard_weight=0.0), given, matched=MATCHED, count=1.0).divergence
    for hard_weight in (0.0, 0.5, 1.0):
        found = measured(given, name, hard_weight=hard_weight).result()
        assert found["divergence"] == pytest.approx(float(raw) / 4)


def test_batches_add_up_and_an_empty_one_adds_nothing() -> None:
    one, other = measured(rows(0)), measured(rows(1))
    both = PairSums() + one + other
    assert both.result()["nll"] == pytest.approx((one.result()["nll"] + other.result()["nll"]) / 2)
    assert (both.bytes, both.aligned) == (12, 6)


def test_projected_sides_measure_the_same() -> None:
    given, eye = rows(), torch.eye
    projected = PairRows(
        **{
            **vars(given),
            "student": Projected(hidden_NH=given.student.logits_NV, weight_VH=eye(5, dtype=torch.float64)),
            "teacher": Projected(hidden_NH=given.teacher.logits_NV, weight_VH=eye(7, dtype=torch.float64)),
        }
    )
    assert measured(projected).result() == pytest.approx(measured(given).result())


def test_two_spellings_of_one_text_compare_by_their_bytes() -> None:
    """A uniform model of 5 entries in 3 tokens, one of 7 in 2: log2(5) * 3 / 6 and log2(7) * 2 / 6 bits a byte."""
    given = rows()
    flat = PairRows(
        **{**vars(given), "student": Dense(logits_NV=torch.zeros(4, 5)), "teacher": Dense(logits_NV=torch.zeros(2, 7))}
    )
    found = measured(flat).result()
    assert found["bits_per_byte"] == pytest.approx(3 * math.log2(5) / 6)
    assert found["teacher_bits_per_byte"] == pytest.approx(2 * math.log2(7) / 6)


def test_no_rows_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="no supervised token"):
        PairSums().result()
