"""forward_kl over draws of a teacher's tokens: what is computed of one draw, and what the mean of many comes to."""

from __future__ import annotations

from dataclasses import replace
from math import log

import pytest
import torch
from loss_cases import Case, all_close, close, dense, dense_case, make, projected_case
from sparse_cases import logits, part_of, run_with
from torch import Tensor

from kdlab.losses import LOSSES
from kdlab.rows import Dense, Projected, Sampled, Side

TAUGHT = [name for name in LOSSES if name != "hard"]


def draw(teacher: Side, draws: int, *, temperature: float = 1.0, entropy: bool = True, seed: int = 0) -> Sampled:
    """Counts of `draws` draws of each row, divided by their number."""
    p_NV = (logits(teacher).detach() / temperature).softmax(-1)
    drawn_ND = torch.multinomial(p_NV, draws, replacement=True, generator=torch.Generator().manual_seed(seed))
    weight_NV = torch.zeros_like(p_NV).scatter_add_(1, drawn_ND, torch.full_like(drawn_ND, 1 / draws, dtype=p_NV.dtype))
    kept = weight_NV.topk(min(draws, p_NV.shape[1]))
    return Sampled(
        ids_NK=kept.indices,
        weight_NK=kept.values,
        vocabulary=p_NV.shape[1],
        temperature=temperature,
        entropy_N=-(p_NV * p_NV.log()).sum(-1) if entropy else None,
    )


def spread(signal: Sampled) -> Tensor:
    """The weights over the whole vocabulary `[N, V]`."""
    zeros_NV = torch.zeros(len(signal), signal.vocabulary, dtype=torch.float64)
    return zeros_NV.scatter_add(1, signal.ids_NK, signal.weight_NK.double())


def test_three_tokens_by_hand() -> None:
    """q = (.5, .3, .2), p = (.7, .1, .2), 4 draws: token 0 three times, token 2 once; id 0 again fills up K."""
    q, p = torch.tensor([[0.5, 0.3, 0.2]]).double(), (0.7, 0.1, 0.2)
    entropy = -sum(x * log(x) for x in p)
    case = Case(
        student=Dense(logits_NV=(q.log() + 2).requires_grad_()),
        teacher=Dense(logits_NV=q),
        labels_N=torch.tensor([1]),
    )
    sampled = Sampled(
        ids_NK=torch.tensor([[0, 2, 0]]),
        weight_NK=torch.tensor([[0.75, 0.25, 0.0]]).double(),
        vocabulary=3,
        entropy_N=torch.tensor([entropy]).double(),
    )
    cross = -0.75 * log(0.5) - 0.25 * log(0.2)
    out, (gradient_NV,) = run_with(case, sampled, make("forward_kl"))
    close(out.divergence, torch.tensor(cross - entropy), 1e-7)
    close(gradient_NV, torch.tensor([[0.5 - 0.75, 0.3, 0.2 - 0.25]]), 1e-7)
    out, (same_NV,) = run_with(case, replace(sampled, entropy_N=None), make("forward_kl"))
    close(out.divergence, torch.tensor(cross + 0.75 * log(0.75) + 0.25 * log(0.25)), 1e-7)  # KL(w || q)
    close(same_NV, gradient_NV)


def test_an_unbiased_row_may_be_below_zero() -> None:
    """p = q = (.9, .1) and one draw, of token 0: -log .9 - H(p) < 0. Cut off at 0, the mean would be too large."""
    logits_NV = torch.tensor([[0.9, 0.1]]).double().log()
    case = Case(
        student=Dense(logits_NV=logits_NV.clone().requires_grad_()),
        teacher=Dense(logits_NV=logits_NV),
        labels_N=torch.tensor([0]),
    )
    entropy = -(0.9 * log(0.9) + 0.1 * log(0.1))
    sampled = Sampled(
        ids_NK=torch.tensor([[0]]),
        weight_NK=torch.ones(1, 1),
        vocabulary=2,
        entropy_N=torch.tensor([entropy]).double(),
    )
    out, _ = run_with(case, sampled, make("forward_kl"))
    close(out.divergence, torch.tensor(-log(0.9) - entropy), 1e-7)
    assert out.divergence < 0
    out, _ = run_with(case, replace(sampled, entropy_N=None), make("forward_kl"))
    assert out.divergence > 0


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("hard_weight", [0.0, 0.3])
@pytest.mark.parametrize("entropy", [True, False])
def test_gradient_is_that_of_the_cross_entropy_with_the_weights(
    temperature: float, hard_weight: float, entropy: bool
) -> None:
    loss = make("forward_kl", temperature=temperature, hard_weight=hard_weight, chunk_rows=4)
    for case in (projected_case(), dense_case(), projected_case(bias=False, scale=0.5, softcap=2.0)):
        sampled = draw(case.teacher, 6, temperature=temperature, entropy=entropy)
        student_NV = logits(case.student)
        w_NV = spread(sampled)
        cross = -(w_NV * (student_NV / temperature).log_softmax(-1)).sum()
        own = -torch.xlogy(w_NV, w_NV).sum() if sampled.entropy_N is None else sampled.entropy_N.sum()
        hard = torch.nn.functional.cross_entropy(student_NV, case.labels_N, reduction="sum")
        expected = ((1 - hard_weight) * temperature**2 * (cross - own) + hard_weight * hard) / 7
        out, gradients = run_with(case, sampled, loss, count=7.0)
        close(out.loss, expected)
        all_close(gradients, torch.autograd.grad(expected, case.leaves))


def test_chunks_and_accumulation_change_nothing() -> None:
    for case in (projected_case(), dense_case()):
        sampled = draw(case.teacher, 6)
        whole, expected = run_with(case, sampled, make("forward_kl", hard_weight=0.3))
        for chunk_rows in (1, 3, 100):
            out, gradients = run_with(case, sampled, make("forward_kl", hard_weight=0.3, chunk_rows=chunk_rows))
            close(out.loss, whole.loss)
            all_close(gradients, expected)
        parts = [slice(0, 5), slice(5, 5), slice(5, 11)]
        loss = make("forward_kl", hard_weight=0.3)
        close(sum(run_with(case.part(r), part_of(sampled, r), loss, count=11)[0].loss for r in parts), whole.loss)


def test_projected_is_dense_and_masks_take_no_part() -> None:
    case, loss = projected_case(), make("forward_kl", hard_weight=0.3, chunk_rows=4)
    assert isinstance(case.student, Projected)
    sampled = draw(case.teacher, 6)
    expected, gradients = run_with(case, sampled, loss)
    spelt = dense(case.student, grad=True)
    out, (gradient_NV,) = run_with(replace(case, student=spelt), sampled, loss)
    close(out.loss, expected.loss)
    all_close(gradients, torch.autograd.grad(case.student.dense().logits_NV, case.leaves, grad_outputs=gradient_NV))
    wide_NV = torch.cat([spelt.logits_NV.detach(), torch.full((11, 3), -torch.inf, dtype=torch.float64)], 1)
    masked = replace(case, student=Dense(logits_NV=wide_NV.requires_grad_()))
    filled = replace(  # what fills up K may name any token
        sampled,
        vocabulary=26,
        ids_NK=torch.cat([sampled.ids_NK, torch.full((11, 1), 25)], 1),
        weight_NK=torch.cat([sampled.weight_NK, torch.zeros(11, 1, dtype=torch.float64)], 1),
    )
    out, (wider_NV,) = run_with(masked, filled, loss)
    close(out.loss, expected.loss)
    close(wider_NV[:, :23], gradient_NV)
    assert not wider_NV[:, 23:].any()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_mean_over_draws_is_the_whole_teacher(temperature: float) -> None:
    """Value and gradient of 3,000 draws of 6 rows, within 5 standard errors of what the dense teacher gives."""
    rows, repeats, draws = 6, 3000, 5
    case = dense_case(rows=rows, vocabulary=9)
    loss = make("forward_kl", temperature=temperature)
    dense_out, (dense_NV,) = case.run(loss, count=1)
    many = Case(
        student=Dense(logits_NV=logits(case.student).detach().repeat(repeats, 1).requires_grad_()),
        teacher=Dense(logits_NV=logits(case.teacher).repeat(repeats, 1)),
        labels_N=case.labels_N.repeat(repeats),
    )
    sampled = draw(many.teacher, draws, temperature=temperature, seed=1)
    out, (gradient,) = run_with(many, sampled, loss, count=repeats)
    p_NV = (logits(case.teacher) / temperature).softmax(-1)
    surprise_NV = -(logits(case.student).detach() / temperature).log_softmax(-1)
    variance_N = (p_NV * surprise_NV.square()).sum(-1) - (p_NV * surprise_NV).sum(-1).square()
    error = float((variance_N.sum() / (draws * repeats)).sqrt())
    assert abs(float(out.divergence / repeats - dense_out.divergence)) < 5 * error
    # d/d logits = T (q - w); the engine's gradient is already divided by the repeats
    mean_NV = gradient.reshape(repeats, rows, 9).sum(0)
    error_NV = temperature * (p_NV * (1 - p_NV) / (draws * repeats)).sqrt()
    assert ((mean_NV - dense_NV).abs() < 5 * error_NV).all()
    biased, _ = run_with(many, replace(sampled, entropy_N=None), loss, count=repeats)
    assert float(biased.divergence / repeats - dense_out.divergence) > 5 * error


@pytest.mark.parametrize("name", TAUGHT)
def test_the_losses_that_say_they_are_linear_are(name: str) -> None:
    """Their gradient at a mixture of two teachers is the mixture of their gradients, and of the others' it is not."""
    case = dense_case(rows=40)
    teachers = [logits(case.teacher).softmax(-1), torch.randn(40, 23, dtype=torch.float64).softmax(-1)]
    teachers.append((teachers[0] + teachers[1]) / 2)
    found = [replace(case, teacher=Dense(logits_NV=p.log())).run(make(name))[1][0] for p in teachers]
    gap = float((found[2] - (found[0] + found[1]) / 2).abs().max())
    assert (gap < 1e-12) == LOSSES[name].linear_in_teacher


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02), (torch.float16, 0.004)]
)
def test_narrow_students(dtype: torch.dtype, tolerance: float) -> None:
    loss = make("forward_kl", temperature=2.0, hard_weight=0.3, chunk_rows=16)
    exact = projected_case(rows=64, vocabulary=50, bias=False)
    assert isinstance(exact.student, Projected)
    sampled = draw(exact.teacher, 8, temperature=2.0)
    expected, references = run_with(exact, sampled, loss)
    narrow = replace(
        exact.student,
        hidden_NH=exact.student.hidden_NH.detach().to(dtype).requires_grad_(),
        weight_VH=exact.student.weight_VH.detach().to(dtype).requires_grad_(),
    )
    case = replace(exact, student=narrow)
    out, gradients = run_with(case, replace(sampled, weight_NK=sampled.weight_NK.float()), loss)
    close(out.loss, expected.loss, tolerance)
    for gradient, reference in zip(gradients, references, strict=True):
        assert gradient.dtype == dtype
        assert (gradient.double() - reference).norm() <= tolerance * reference.norm()
