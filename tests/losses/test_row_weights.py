"""`Rows.weight_N`: the labels' term of each row weighs what its class does, in value and gradient, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from loss_cases import Case, all_close, close, dense_case, every_loss, make, plain, projected_case
from sparse_cases import keep, merge
from torch import Tensor

from kdlab.losses import compiled
from kdlab.losses.engine import LossOutput, row_loss
from kdlab.rows import Dense, Rows, Sampled, Signal

WEIGHTS = torch.tensor([0.0, 0.3, 1.0, 2.5, 7.0, 0.3, 1.0, 0.1, 4.0, 1.5, 0.9], dtype=torch.float64)


def run(loss: Any, case: Case, *, teacher: Signal | None = None, weight_N: Tensor | None = WEIGHTS) -> Any:
    rows = Rows(student=case.student, teacher=teacher or case.teacher, labels_N=case.labels_N, weight_N=weight_N)
    out: LossOutput = row_loss(loss, rows, count=7.0)
    return out, list(torch.autograd.grad(out.loss, case.leaves))


def weighted(loss: Any, case: Case) -> Tensor:
    """The definition with weights: that without, and what the weights add to its cross-entropy."""
    student_NV = case.student.logits_NV if isinstance(case.student, Dense) else case.student.dense().logits_NV
    surprise_N = torch.nn.functional.cross_entropy(student_NV, case.labels_N, reduction="none")
    more = loss.hard_weight * ((WEIGHTS - 1) * surprise_N).sum() / 7.0
    return plain(loss, case.student, case.teacher, case.labels_N, count=7.0) + more


@every_loss
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("hard_weight", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("make_case", [projected_case, dense_case])
def test_weights_are_those_of_the_plain_formula(
    name: str, temperature: float, hard_weight: float, make_case: Any
) -> None:
    loss = make(name, temperature=temperature, hard_weight=hard_weight, chunk_rows=4)
    case = make_case()
    out, gradients = run(loss, case)
    expected = weighted(loss, case)
    close(out.loss, expected)
    all_close(gradients, torch.autograd.grad(expected, case.leaves))


@every_loss
def test_weights_of_one_and_no_weights_are_the_same_to_the_bit(name: str) -> None:
    loss, case = make(name, temperature=2.0, hard_weight=0.3, chunk_rows=4), projected_case(dtype=torch.float32)
    out, gradients = run(loss, case, weight_N=None)
    ones, same = run(loss, case, weight_N=torch.ones(11))
    assert torch.equal(out.loss, ones.loss)
    assert all(torch.equal(one, other) for one, other in zip(gradients, same, strict=True))


def test_values_alone_are_weighted_too() -> None:
    loss, case = make("forward_kl", hard_weight=0.3, chunk_rows=4), dense_case()
    with torch.no_grad():
        out = row_loss(loss, replace(case.rows(), weight_N=WEIGHTS), count=7.0)
    close(out.loss, weighted(loss, case).detach())


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_weights_beside_a_teacher_of_some_entries(temperature: float) -> None:
    loss, case = make("forward_kl", temperature=temperature, hard_weight=0.4, chunk_rows=4), dense_case()
    assert isinstance(case.student, Dense)
    top = keep(case.teacher, 3, temperature=temperature)
    drawn = Sampled(
        ids_NK=top.ids_NK, weight_NK=top.logp_NK.softmax(1), vocabulary=top.vocabulary, temperature=temperature
    )
    student_NV = case.student.logits_NV
    logq_NV = (student_NV / temperature).log_softmax(-1)
    surprise_N = torch.nn.functional.cross_entropy(student_NV, case.labels_N, reduction="none")
    logp_NJ = torch.cat([top.logp_NK, top.rest_N[:, None]], 1)
    t2 = temperature**2 if loss.t2_scale else 1.0
    of_top = loss.divergence(merge(logq_NV, top.ids_NK), logp_NJ).sum()
    w_NK = drawn.weight_NK
    of_drawn = (w_NK * (w_NK.log() - logq_NV.gather(1, top.ids_NK))).sum()
    for signal, divergence in ((top, of_top), (drawn, of_drawn)):
        expected = (0.6 * t2 * divergence + 0.4 * (WEIGHTS * surprise_N).sum()) / 7.0
        out, gradients = run(loss, case, teacher=signal)
        close(out.loss, expected)
        all_close(gradients, torch.autograd.grad(expected, case.leaves, retain_graph=True))


def test_weights_balance_rare_classes_without_changing_the_size_of_the_loss() -> None:
    labels_N = torch.tensor([0] * 8 + [1] * 2)
    weight_C = torch.tensor([10 / (2 * 8), 10 / (2 * 2)], dtype=torch.float64)
    logits_NV = torch.zeros(10, 2, dtype=torch.float64, requires_grad=True)
    rows = Rows(student=Dense(logits_NV=logits_NV), teacher=None, labels_N=labels_N, weight_N=weight_C[labels_N])
    out = row_loss(make("hard"), rows, count=10)
    close(out.loss, torch.tensor(2.0, dtype=torch.float64).log())
    (gradient_NV,) = torch.autograd.grad(out.loss, logits_NV)
    close(gradient_NV.sum(0), torch.zeros(2))  # as if both classes were equally common


@pytest.mark.slow
def test_compiled_weights_are_eager_ones() -> None:
    if compiled.missing_compiler("cpu"):
        pytest.skip("no C++ compiler here")
    case = projected_case(dtype=torch.float32)
    options = {"temperature": 2.0, "hard_weight": 0.3, "chunk_rows": 4}
    expected, reference = run(make("jensen_shannon", **options), case)
    out, gradients = run(make("jensen_shannon", **options, compile=True), case)
    close(out.loss, expected.loss, 1e-5)
    all_close(gradients, reference, 1e-5)
