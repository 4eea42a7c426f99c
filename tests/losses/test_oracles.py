"""Each loss against something that is not itself: numbers worked out elsewhere, torch's losses, TRL's, AKL's algorithm.

The formulas read log-probabilities, so most cases call `divergence` directly; the laws tie the engine to it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from loss_cases import close, dense_case, make, projected_case
from torch import Tensor
from torch.nn import functional

from kdlab.losses import LOSSES
from kdlab.rows import Dense

# p = (.5, .3, .2) the teacher, q = (.2, .2, .6) the student. Worked out with 40 decimal digits from the definitions.
P, Q = (0.5, 0.3, 0.2), (0.2, 0.2, 0.6)
KL_PQ, KL_QP = 0.360062440636, 0.394816205204
THREE_TOKENS: list[tuple[str, dict[str, Any], float]] = [
    ("forward_kl", {}, KL_PQ),  # .5 ln 2.5 + .3 ln 1.5 - .2 ln 3
    ("reverse_kl", {}, KL_QP),  # -.2 ln 2.5 - .2 ln 1.5 + .6 ln 3
    ("symmetric", {"forward_weight": 0.9}, 0.363537817093),  # mostly KL(p ‖ q)
    ("jensen_shannon", {}, 0.090565849955),
    ("jensen_shannon", {"teacher_weight": 0.2}, 0.057241978502),  # m = .2 p + .8 q; .2 KL(p ‖ m) + .8 KL(q ‖ m)
    ("skew_forward", {"alpha": 0.1}, 0.289342994495),  # KL(p ‖ .1 p + .9 q)
    ("skew_reverse", {"alpha": 0.1}, 0.304578662207),  # KL(q ‖ .1 q + .9 p)
    ("adaptive_kl", {"head_mass": 0.5}, 0.381783543491),  # head {.5}: (.3 KL(p ‖ q) + .5 KL(q ‖ p)) / .8
    ("adaptive_kl", {"head_mass": 0.85}, 0.377439322920),  # head {.5, .3}: weights .4 and .4
    ("adaptive_kl", {"head_mass": 0.01}, 0.381783543491),  # the first token is always head
    ("alpha_beta", {"alpha": 0.2, "beta": 0.7}, 0.423002557295),
    ("alpha_beta", {"alpha": 0.7, "beta": 0.2}, 0.404329933546),
    ("alpha_beta", {"alpha": 1.0, "beta": 0.0}, KL_PQ),
    ("alpha_beta", {"alpha": 0.0, "beta": 1.0}, KL_QP),
    ("alpha_beta", {"alpha": 0.6, "beta": 0.0}, 0.559140638908),
    ("alpha_beta", {"alpha": 0.0, "beta": 0.6}, 0.588378810670),
    ("alpha_beta", {"alpha": 0.5, "beta": -0.5}, 1.086648780033),
    ("alpha_beta", {"alpha": 0.0, "beta": 0.0}, 1.105469810012),
    ("total_variation", {}, 0.4),
    ("logit_mse", {}, 0.736979873341),  # a third of the sum of squares, the logits being the log-probabilities
    ("hard", {}, 1.609437912434),  # label 1: -ln .2
]


def test_every_loss_has_a_three_token_case() -> None:
    assert {name for name, _, _ in THREE_TOKENS} == set(LOSSES)


@pytest.mark.parametrize(("name", "options", "expected"), THREE_TOKENS)
def test_three_tokens_by_hand(name: str, options: dict[str, Any], expected: float) -> None:
    case = dense_case(rows=1, vocabulary=3)
    case.student = Dense(logits_NV=torch.tensor([Q], dtype=torch.float64).log().requires_grad_())
    case.teacher = Dense(logits_NV=torch.tensor([P], dtype=torch.float64).log())
    case.labels_N = torch.tensor([1])
    out, _ = case.run(make(name, **options))
    assert out.loss.item() == pytest.approx(expected, abs=1e-11)
    if name != "hard":
        assert out.divergence.item() == pytest.approx(expected, abs=1e-11)


def log_sides(temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    case = dense_case(rows=50, vocabulary=30)
    assert isinstance(case.student, Dense)
    assert isinstance(case.teacher, Dense)
    student_NV, teacher_NV = case.student.logits_NV.detach(), case.teacher.logits_NV
    return (student_NV / temperature).log_softmax(-1), (teacher_NV / temperature).log_softmax(-1)


def torch_kl(a_NV: Tensor, b_NV: Tensor) -> Tensor:
    """KL(a ‖ b): torch's kl_div takes the second argument first."""
    return functional.kl_div(b_NV, a_NV, reduction="none", log_target=True).sum(-1)


def test_kl_family_is_torch_kl_div() -> None:
    q_NV, p_NV = log_sides()
    close(make("forward_kl").divergence(q_NV, p_NV), torch_kl(p_NV, q_NV))
    close(make("reverse_kl").divergence(q_NV, p_NV), torch_kl(q_NV, p_NV))
    both = 0.3 * torch_kl(p_NV, q_NV) + 0.7 * torch_kl(q_NV, p_NV)
    close(make("symmetric", forward_weight=0.3).divergence(q_NV, p_NV), both)
    for alpha in (0.1, 0.7):
        toward_q, toward_p = (
            (alpha * a_NV.exp() + (1 - alpha) * b_NV.exp()).log() for a_NV, b_NV in ((p_NV, q_NV), (q_NV, p_NV))
        )
        close(make("skew_forward", alpha=alpha).divergence(q_NV, p_NV), torch_kl(p_NV, toward_q))
        close(make("skew_reverse", alpha=alpha).divergence(q_NV, p_NV), torch_kl(q_NV, toward_p))


def generalized_jsd(student_NV: Tensor, teacher_NV: Tensor, beta: float, temperature: float) -> Tensor:
    """TRL's `GKDTrainer.generalized_jsd_loss` (GKD, eq. 1), from the paper: rows summed, divided by their number."""
    q_NV, p_NV = (student_NV / temperature).softmax(-1), (teacher_NV / temperature).softmax(-1)
    m_NV = beta * p_NV + (1 - beta) * q_NV
    terms_NV = beta * p_NV * (p_NV / m_NV).log() + (1 - beta) * q_NV * (q_NV / m_NV).log()
    return terms_NV.sum() / len(terms_NV)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("source", ["paper", "trl"])
def test_jensen_shannon_is_gkd(beta: float, source: str) -> None:
    case = projected_case(rows=20)
    out, gradients = case.run(make("jensen_shannon", teacher_weight=beta, temperature=2.0, chunk_rows=6))
    student_NV, teacher_NV = case.student.dense().logits_NV, case.teacher.dense().logits_NV
    if source == "paper":
        expected = generalized_jsd(student_NV, teacher_NV, beta, 2.0)
    else:
        trainer = pytest.importorskip("trl.experimental.gkd", reason="trl is not installed").GKDTrainer
        expected = trainer.generalized_jsd_loss(student_NV, teacher_NV, beta=beta, temperature=2.0)
    close(out.loss, expected, 1e-7)  # TRL rounds beta to the logits' type
    for gradient, reference in zip(gradients, torch.autograd.grad(expected, case.leaves), strict=True):
        close(gradient, reference, 1e-7)


def adaptive_by_sorting(q_V: list[float], p_V: list[float], head_mass: float) -> float:
    """AKL of one row by the authors' algorithm, token by token."""
    order = sorted(range(len(p_V)), key=lambda token: -p_V[token])
    head, tail, mass = 0.0, 0.0, 0.0
    for place, token in enumerate(order):
        mass += p_V[token]
        gap = abs(p_V[token] - q_V[token])
        if place == 0 or mass <= head_mass:
            head += gap
        else:
            tail += gap
    return head / (head + tail)


@pytest.mark.parametrize("head_mass", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("sharpness", [0.0, 0.2, 3.0])
def test_adaptive_kl_is_the_authors_algorithm(head_mass: float, sharpness: float) -> None:
    """Flat teachers have heads of hundreds of tokens, sharp ones of one; 0 makes all tokens equal but for noise."""
    draw = torch.Generator().manual_seed(1)
    q_NV = torch.randn(6, 1500, generator=draw, dtype=torch.float64).log_softmax(-1)
    p_NV = (torch.randn(6, 1500, generator=draw, dtype=torch.float64) * (sharpness + 1e-3)).log_softmax(-1)
    shares = [
        adaptive_by_sorting(q_V.tolist(), p_V.tolist(), head_mass)
        for q_V, p_V in zip(q_NV.exp(), p_NV.exp(), strict=True)
    ]
    share_N = torch.tensor(shares, dtype=torch.float64)
    expected_N = share_N * torch_kl(p_NV, q_NV) + (1 - share_N) * torch_kl(q_NV, p_NV)
    close(make("adaptive_kl", head_mass=head_mass).divergence(q_NV, p_NV), expected_N)


def test_alpha_beta_special_cases() -> None:
    q_NV, p_NV = log_sides()
    hellinger_N = 2 * (p_NV.exp().sqrt() - q_NV.exp().sqrt()).square().sum(-1)
    close(make("alpha_beta", alpha=0.5, beta=0.5).divergence(q_NV, p_NV), hellinger_N)
    euclid_N = (p_NV.exp() - q_NV.exp()).square().sum(-1) / 2
    close(make("alpha_beta", alpha=1.0, beta=1.0).divergence(q_NV, p_NV), euclid_N)
    pearson_N = ((p_NV.exp() - q_NV.exp()).square() / q_NV.exp()).sum(-1) / 2
    close(make("alpha_beta", alpha=2.0, beta=-1.0).divergence(q_NV, p_NV), pearson_N)


@pytest.mark.parametrize(
    "limit", [(1.0, 0.0), (0.0, 1.0), (0.6, 0.0), (0.0, 0.6), (0.0, 0.0), (0.5, -0.5), (-0.5, 0.5)]
)
def test_alpha_beta_limits_are_where_the_formula_goes(limit: tuple[float, float]) -> None:
    q_NV, p_NV = log_sides()
    a, b = limit
    exact = make("alpha_beta", alpha=a, beta=b).divergence(q_NV, p_NV)
    a, b = a + 2e-5, b + 1e-5
    p_a, q_b, p_s, q_s = (a * p_NV).exp(), (b * q_NV).exp(), ((a + b) * p_NV).exp(), ((a + b) * q_NV).exp()
    near = -(p_a * q_b - a / (a + b) * p_s - b / (a + b) * q_s).sum(-1) / (a * b)
    close(near, exact, 1e-2)


def test_alpha_beta_sees_a_limit_through_rounding() -> None:
    q_NV, p_NV = log_sides()
    exact = make("alpha_beta", alpha=0.3, beta=-0.3).divergence(q_NV, p_NV)
    close(make("alpha_beta", alpha=0.1 + 0.2, beta=-0.3).divergence(q_NV, p_NV), exact)


def test_distances_are_torch_losses() -> None:
    q_NV, p_NV = log_sides()
    half_l1_N = functional.l1_loss(q_NV.exp(), p_NV.exp(), reduction="none").sum(-1) / 2
    close(make("total_variation").divergence(q_NV, p_NV), half_l1_N)
    close(make("logit_mse").divergence(q_NV, p_NV), functional.mse_loss(q_NV, p_NV, reduction="none").mean(-1))


def test_logit_mse_counts_no_masked_entry() -> None:
    student_NV = torch.tensor([[1.0, 2.0, -torch.inf, 0.0]])
    teacher_NV = torch.tensor([[0.0, 4.0, -torch.inf, -torch.inf]])
    close(make("logit_mse").divergence(student_NV, teacher_NV), torch.tensor([(1.0 + 4.0) / 2]))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_hard_is_cross_entropy_at_temperature_one(temperature: float) -> None:
    case = projected_case()
    out, gradients = case.run(make("hard", temperature=temperature, chunk_rows=4), count=4.0)
    expected = functional.cross_entropy(case.student.dense().logits_NV, case.labels_N, reduction="sum") / 4
    close(out.loss, expected)
    assert out.hard is not None
    close(out.hard, expected * 4)
    assert out.divergence.item() == 0
    for gradient, reference in zip(gradients, torch.autograd.grad(expected, case.leaves), strict=True):
        close(gradient, reference)


def test_hinton_at_a_high_temperature() -> None:
    """T² KL goes to half the variance of the logits' difference as T grows: the reason for T² (Hinton et al., 2015)."""
    case = dense_case(rows=5, vocabulary=40)
    assert isinstance(case.student, Dense)
    assert isinstance(case.teacher, Dense)
    gap_NV = case.student.logits_NV - case.teacher.logits_NV
    half_variance = (gap_NV.var(-1, correction=0) / 2).sum().detach()
    for name in ("forward_kl", "reverse_kl", "symmetric", "adaptive_kl"):
        out, _ = case.run(make(name, temperature=1e4), count=1.0)
        close(out.loss, half_variance, 1e-3)
        assert make(name).t2_scale
