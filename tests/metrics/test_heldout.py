"""Held-out sums against plain float64 formulas, and against themselves under every way of cutting the rows."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kdlab.metrics.heldout import RowSums, measure
from kdlab.rows import Dense, Projected, Rows, cut

VOCABULARY, HIDDEN = 13, 5


def random_rows(n: int, *, seed: int = 0, dtype: torch.dtype = torch.float64, teacher: bool = True) -> Rows:
    g = torch.Generator().manual_seed(seed)

    def side(**head: Tensor | float) -> Projected:
        hidden_NH = torch.randn(n, HIDDEN, generator=g, dtype=torch.float64)
        weight_VH = torch.randn(VOCABULARY, HIDDEN, generator=g, dtype=torch.float64)
        return Projected(hidden_NH=hidden_NH.to(dtype), weight_VH=weight_VH.to(dtype), **head)

    bias_V = torch.randn(VOCABULARY, generator=g, dtype=torch.float64).to(dtype)
    return Rows(
        student=side(bias_V=bias_V, scale=0.7),
        teacher=side(softcap=3.0) if teacher else None,
        labels_N=torch.randint(0, VOCABULARY, (n,), generator=g),
    )


def split(rows: Rows, start: int, stop: int) -> Rows:
    def part(side: Projected) -> Projected:
        return Projected(
            hidden_NH=side.hidden_NH[start:stop],
            weight_VH=side.weight_VH,
            bias_V=side.bias_V,
            scale=side.scale,
            softcap=side.softcap,
        )

    teacher = None if rows.teacher is None else part(rows.teacher)
    return Rows(student=part(rows.student), teacher=teacher, labels_N=rows.labels_N[start:stop])


def by_hand(student_logits_NV: Tensor, teacher_logits_NV: Tensor, labels_N: Tensor) -> dict[str, float]:
    """The definitions, one token at a time, in Python floats."""

    def softmax(logits: list[float]) -> list[float]:
        total = math.fsum(math.exp(z) for z in logits)
        return [math.exp(z) / total for z in logits]

    nll, teacher_nll, kl, same = [], [], [], 0
    for student, teacher, label in zip(
        student_logits_NV.double().tolist(), teacher_logits_NV.double().tolist(), labels_N.tolist(), strict=True
    ):
        q, p = softmax(student), softmax(teacher)
        nll.append(-math.log(q[label]))
        teacher_nll.append(-math.log(p[label]))
        kl.append(math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
        same += q.index(max(q)) == p.index(max(p))
    n = len(nll)
    return {
        "rows": n,
        "nll": math.fsum(nll) / n,
        "perplexity": math.exp(math.fsum(nll) / n),
        "kl": math.fsum(kl) / n,
        "teacher_nll": math.fsum(teacher_nll) / n,
        "teacher_perplexity": math.exp(math.fsum(teacher_nll) / n),
        "top1_agreement": same / n,
    }


def test_equals_the_definitions_token_by_token() -> None:
    rows = random_rows(40)
    expected = by_hand(rows.student.dense().logits_NV, rows.teacher.dense().logits_NV, rows.labels_N)
    result = measure(rows, chunk_rows=7).result()
    assert result == pytest.approx(expected, rel=1e-12)
    assert list(result) == list(expected)
    assert result["rows"] == 40
    assert isinstance(result["rows"], int)


def test_dense_sides_give_what_projected_sides_give() -> None:
    rows = random_rows(23)
    dense = Rows(student=rows.student.dense(), teacher=rows.teacher.dense(), labels_N=rows.labels_N)
    assert measure(dense, chunk_rows=5).result() == pytest.approx(measure(rows, chunk_rows=5).result(), rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 30),
    chunk_rows=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 30), max_size=4),
    seed=st.integers(0, 5),
    teacher=st.booleans(),
)
def test_chunks_and_splits_change_nothing(n: int, chunk_rows: int, cuts: list[int], seed: int, teacher: bool) -> None:
    rows = random_rows(n, seed=seed, teacher=teacher)
    edges = [0, *sorted(min(cut, n) for cut in cuts), n]
    parts = [measure(split(rows, a, b), chunk_rows=chunk_rows) for a, b in itertools.pairwise(edges)]
    whole = measure(rows, chunk_rows=n)
    assert sum(parts, RowSums()).result() == pytest.approx(whole.result(), rel=1e-12)


def test_sums_weigh_tokens_and_not_batches() -> None:
    rows = random_rows(11)
    one, ten = measure(split(rows, 0, 1)), measure(split(rows, 1, 11))
    mean = (one.result()["nll"] + 10 * ten.result()["nll"]) / 11
    assert (one + ten).result()["nll"] == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-5)])
def test_low_precision_logits_get_a_float32_softmax(dtype: torch.dtype, tolerance: float) -> None:
    """The oracle starts from the logits as rounded; what is left to differ is the softmax and the sums."""
    rows = random_rows(60, dtype=dtype)
    student, teacher = rows.student.dense(), rows.teacher.dense()
    dense = Rows(student=student, teacher=teacher, labels_N=rows.labels_N)
    expected = by_hand(student.logits_NV, teacher.logits_NV, rows.labels_N)
    assert measure(dense, chunk_rows=9).result() == pytest.approx(expected, rel=tolerance)


def test_sides_may_differ_in_precision() -> None:
    rows = random_rows(20, dtype=torch.float32)
    teacher = Dense(logits_NV=rows.teacher.dense().logits_NV.to(torch.bfloat16))
    mixed = Rows(student=rows.student, teacher=teacher, labels_N=rows.labels_N)
    expected = by_hand(rows.student.dense().logits_NV, teacher.logits_NV, rows.labels_N)
    assert measure(mixed).result() == pytest.approx(expected, rel=1e-5)


def test_equal_sides_have_no_divergence() -> None:
    rows = random_rows(50, dtype=torch.float32)
    same = Rows(student=rows.student, teacher=rows.student, labels_N=rows.labels_N)
    result = measure(same).result()
    assert result["kl"] == 0.0
    assert result["top1_agreement"] == 1.0
    assert result["teacher_perplexity"] == result["perplexity"]


def test_a_token_ruled_out_by_the_teacher_adds_nothing_and_by_the_student_alone_everything() -> None:
    half = torch.tensor([[0.0, 0.0, -math.inf]])
    third = torch.zeros(1, 3)
    labels = torch.tensor([0])

    def kl(teacher: Tensor, student: Tensor) -> float:
        sides = Rows(student=Dense(logits_NV=student), teacher=Dense(logits_NV=teacher), labels_N=labels)
        return measure(sides).result()["kl"]

    assert kl(half, third) == pytest.approx(math.log(3 / 2), rel=1e-6)
    assert kl(half, half) == 0.0
    assert kl(third, half) == math.inf


def test_not_a_number_is_not_hidden() -> None:
    logits = torch.tensor([[math.nan, 1.0], [0.0, 1.0]])
    rows = Rows(
        student=Dense(logits_NV=logits), teacher=Dense(logits_NV=torch.zeros(2, 2)), labels_N=torch.tensor([1, 1])
    )
    result = measure(rows).result()
    assert math.isnan(result["nll"])
    assert math.isnan(result["perplexity"])
    assert math.isnan(result["kl"])


def test_without_a_teacher_only_the_labels_speak() -> None:
    result = measure(random_rows(20, teacher=False)).result()
    assert set(result) == {"rows", "nll", "perplexity"}


def test_with_and_without_a_teacher_do_not_add_up() -> None:
    with_teacher, alone = measure(random_rows(3)), measure(random_rows(3, teacher=False))
    with pytest.raises(AssertionError, match="do not add up"):
        with_teacher + alone
    with pytest.raises(AssertionError, match="do not add up"):
        alone + with_teacher


def test_no_rows_are_the_zero_and_have_no_result() -> None:
    empty = measure(random_rows(0))
    assert empty == RowSums()
    some = measure(random_rows(4))
    assert empty + some == some + empty == some
    with pytest.raises(ValueError, match=r"dataset\.heldout"):
        empty.result()


def test_a_hopeless_student_has_an_infinite_perplexity_and_no_crash() -> None:
    rows = Rows(student=Dense(logits_NV=torch.tensor([[0.0, 1000.0]])), teacher=None, labels_N=torch.tensor([0]))
    result = measure(rows).result()
    assert result["nll"] == pytest.approx(1000.0)
    assert result["perplexity"] == math.inf


def test_the_rows_stay_as_they_were_and_no_graph_is_built() -> None:
    rows = random_rows(6)
    rows.student.weight_VH.requires_grad_()
    before = rows.student.weight_VH.detach().clone(), rows.teacher.hidden_NH.clone()
    dense = Dense(logits_NV=rows.student.dense().logits_NV.detach())
    logits_before = dense.logits_NV.clone()
    measure(rows)
    measure(Rows(student=dense, teacher=dense, labels_N=rows.labels_N))
    assert torch.equal(rows.student.weight_VH.detach(), before[0])
    assert torch.equal(rows.teacher.hidden_NH, before[1])
    assert torch.equal(dense.logits_NV, logits_before)
    assert rows.student.weight_VH.grad is None


class Largest(TorchDispatchMode):
    """Remembers the most elements that any operation's result held."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_no_tensor_holds_more_than_a_chunk_of_logits() -> None:
    rows = random_rows(500, dtype=torch.float32)
    with Largest() as largest:
        measure(rows, chunk_rows=20)
    assert largest.elements <= max(20 * VOCABULARY, 500)


def test_what_the_cut_takes_is_the_mean_probability_of_the_rest() -> None:
    whole = random_rows(30)
    (student, student_rest), (teacher, teacher_rest) = cut(whole.student, 10), cut(whole.teacher, 10)
    rows = Rows(
        student=student,
        teacher=teacher,
        labels_N=whole.labels_N % 10,
        student_rest=student_rest,
        teacher_rest=teacher_rest,
    )
    parts = [measure(rows, chunk_rows=size).result() for size in (7, 30)]
    logits = [side.dense().logits_NV for side in (whole.student, whole.teacher)]
    masses = [z_NV.softmax(1)[:, 10:].sum(1).mean().item() for z_NV in logits]
    expected = by_hand(logits[0][:, :10], logits[1][:, :10], rows.labels_N)
    expected |= {"teacher_cut_mass": masses[1], "student_cut_mass": masses[0]}
    for result in parts:
        assert result == pytest.approx(expected, rel=1e-12)


def test_a_side_that_is_not_cut_loses_nothing_and_an_empty_rest_weighs_nothing() -> None:
    whole = random_rows(5)
    teacher = torch.cat([whole.teacher.dense().logits_NV, torch.full((5, 4), -math.inf, dtype=torch.float64)], 1)
    kept, rest = cut(Dense(logits_NV=teacher), VOCABULARY)
    rows = Rows(student=whole.student, teacher=kept, labels_N=whole.labels_N, teacher_rest=rest)
    assert measure(rows).result() == measure(whole).result() | {"teacher_cut_mass": 0.0, "student_cut_mass": 0.0}
    assert "teacher_cut_mass" not in measure(whole).result()
    alone = Rows(student=kept, teacher=None, labels_N=whole.labels_N, student_rest=rest)
    assert measure(alone).result()["student_cut_mass"] == 0.0
