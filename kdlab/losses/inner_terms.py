"""The formulas of the inner-layer terms: a distance for each position, from float32 or float64 tensors. p is the
teacher, q the student.

Shape letters: N positions that are no padding, B batch, T time, H hidden, A attention heads, K keys, F features of a
query, key or value, R relation heads, D features of one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TINY = 1e-37
"""A probability below every one that float32 can tell from 0: where the student's map has a 0, the KL stays finite."""
SHORT = 1e-8
"""No vector counts as shorter, in a cosine."""
UNSEEN = -1e30
"""A score whose softmax is exactly 0 and whose logarithm is still finite."""


def hidden_distance(student_NH: Tensor, teacher_NH: Tensor, distance: str) -> Tensor:
    """`[N]`: "mse", (1/H) Σ_h (s - t)², or "cosine", 1 - s·t / (|s| |t|)."""
    if distance == "mse":
        return (student_NH - teacher_NH).square().mean(-1)
    lengths: Tensor = student_NH.norm(dim=-1).clamp(min=SHORT) * teacher_NH.norm(dim=-1).clamp(min=SHORT)
    return 1 - (student_NH * teacher_NH).sum(-1) / lengths


def attention_distance(student_NAK: Tensor, teacher_NAK: Tensor, distance: str) -> Tensor:
    """`[N]`: "kl", the mean over heads of Σ_k p (log p - log q), or "mse", that of Σ_k (p - q)².

    N are queries; their maps sum to 1 over the keys, and are 0 on both sides where a query must not look. Where the
    numbers of heads differ, either side's maps are averaged over its heads first (there is no telling which head is
    which).
    """
    if student_NAK.shape[1] != teacher_NAK.shape[1]:
        student_NAK, teacher_NAK = student_NAK.mean(1, keepdim=True), teacher_NAK.mean(1, keepdim=True)
    if distance == "mse":
        return (student_NAK - teacher_NAK).square().sum(-1).mean(-1)
    logs = teacher_NAK.clamp(min=TINY).log() - student_NAK.clamp(min=TINY).log()
    return (teacher_NAK * logs).sum(-1).mean(-1)


def relation_distance(
    student_BTF: Tensor, teacher_BTF: Tensor, *, heads: int, seen_BTT: Tensor, on_BT: Tensor
) -> Tensor:
    """`[N]`, N where `on_BT`: the mean over relation heads of KL(p ‖ q) over the keys of each query, both the softmax
    of `A Aᵀ / sqrt(D)` over the keys that are `seen_BTT` (Wang et al., MiniLMv2, 2021). Every query sees a key."""
    p_NRK = _relation(teacher_BTF, heads, seen_BTT, on_BT)
    q_NRK = _relation(student_BTF, heads, seen_BTT, on_BT)
    return (p_NRK.exp() * (p_NRK - q_NRK)).sum(-1).mean(-1)


def _relation(features_BTF: Tensor, heads: int, seen_BTT: Tensor, on_BT: Tensor) -> Tensor:
    """log softmax(A Aᵀ / sqrt(D)) `[N, R, K]`."""
    a_BRTD = features_BTF.reshape(*features_BTF.shape[:-1], heads, -1).transpose(1, 2)
    scores_BRTK = a_BRTD @ a_BRTD.transpose(-1, -2) / a_BRTD.shape[-1] ** 0.5
    logs_BRTK = scores_BRTK.masked_fill(~seen_BTT[:, None], UNSEEN).log_softmax(-1)
    logs_NRK: Tensor = logs_BRTK.transpose(1, 2)[on_BT]
    return logs_NRK
