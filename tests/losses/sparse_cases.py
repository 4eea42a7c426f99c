"""Sparse signals for the tests of the losses, and a float64 reference that merges outcomes over the whole vocabulary.

Shape letters: N rows, V vocabulary or classes, K kept entries, J = K + 1.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from loss_cases import Case
from torch import Tensor

from kdlab.losses import RowLoss
from kdlab.losses.engine import LossOutput, row_loss
from kdlab.rows import Dense, Rows, Sampled, Side, Signal, TopK


def logits(side: Side) -> Tensor:
    return side.logits_NV if isinstance(side, Dense) else side.dense().logits_NV


def keep(side: Side, k: int, *, temperature: float = 1.0) -> TopK:
    """What a codec of `k` entries would keep of a teacher, without rounding."""
    logp_NV = (logits(side).detach() / temperature).log_softmax(-1)
    kept = logp_NV.topk(k)
    others_NV = logp_NV.scatter(1, kept.indices, -torch.inf)
    return TopK(
        ids_NK=kept.indices,
        logp_NK=kept.values,
        rest_N=others_NV.logsumexp(-1),
        vocabulary=logp_NV.shape[1],
        temperature=temperature,
    )


def merge(logp_NV: Tensor, ids_NK: Tensor) -> Tensor:
    """Log-probabilities `[N, J]` of the kept entries and of all others together, by a loop over rows."""
    merged = []
    for logp_V, ids_K in zip(logp_NV, ids_NK, strict=True):
        others = [v for v in range(len(logp_V)) if v not in set(ids_K.tolist())]
        merged.append(torch.cat([logp_V[ids_K], logp_V[others].logsumexp(0, keepdim=True)]))
    return torch.stack(merged)


def merged_loss(loss: RowLoss, case: Case, ids_NK: Tensor, *, count: float) -> Tensor:
    """The definition over J outcomes, from the whole distributions of both sides, for autograd to differentiate."""
    student_NV, teacher_NV = logits(case.student), logits(case.teacher)
    sides = [merge((z_NV / loss.temperature).log_softmax(-1), ids_NK) for z_NV in (student_NV, teacher_NV)]
    t2 = loss.temperature**2 if loss.t2_scale else 1.0
    hard = torch.nn.functional.cross_entropy(student_NV, case.labels_N, reduction="sum")
    return ((1 - loss.hard_weight) * t2 * loss.divergence(*sides).sum() + loss.hard_weight * hard) / count


def run_with(
    case: Case, signal: Signal, loss: RowLoss, *, count: float | None = None
) -> tuple[LossOutput, list[Tensor]]:
    """The engine's output and the gradients of the case's leaves, with `signal` for a teacher."""
    rows = Rows(student=case.student, teacher=signal, labels_N=case.labels_N)
    out = row_loss(loss, rows, count=count or max(len(case.labels_N), 1))
    return out, list(torch.autograd.grad(out.loss, case.leaves))


def part_of(signal: TopK | Sampled, rows: slice) -> TopK | Sampled:
    """Some rows of a sparse signal."""
    cut = {name: value[rows] for name, value in vars(signal).items() if isinstance(value, Tensor)}
    return replace(signal, **cut)
