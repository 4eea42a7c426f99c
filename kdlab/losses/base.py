"""RowLoss: what a row loss is, and the options every row loss has. Importable without torch.

A row loss is its formula: a subclass writes `divergence`. Temperature, T², the hard-label term, chunks, masks,
normalisation and the fused LM head are the engine's (`losses.engine`), once. A subclass may add `closed_form`, the
same formula with its gradient, for speed; the laws hold it against autograd.

Shape letters: N rows, V vocabulary or classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, log1p
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

TINY = 1e-37
"""A probability below every one that float32 can tell from 0 in a sum; keeps logarithms finite."""


def kl(a_NV: Tensor, b_NV: Tensor) -> Tensor:
    """KL(a ‖ b) = Σ_v a (log a - log b) of each row `[N]`, in nats, from log-probabilities `[N, V]`."""
    return (a_NV.exp() * (a_NV - b_NV)).sum(-1)


def mixture(a_NV: Tensor, b_NV: Tensor, weight: float) -> Tensor:
    """log(weight a + (1 - weight) b), `[N, V]`, from log-probabilities; 0 < weight < 1."""
    return (a_NV + log(weight)).logaddexp(b_NV + log1p(-weight))


def through_softmax(slope_NV: Tensor, q_NV: Tensor) -> Tensor:
    """dD/dz = q (s - Σ q s) from the slope s, which is dD/dq up to a constant per row. Overwrites both, returns q."""
    mean_N1 = (slope_NV * q_NV).sum(-1, keepdim=True)
    return q_NV.mul_(slope_NV.sub_(mean_N1))


@dataclass(kw_only=True)
class RowLoss:
    """`(1 - hard_weight) * T² * divergence(q_T, p_T) + hard_weight * CE(q, labels)`, summed over rows.

    p is the teacher, q the student; p_T and q_T are their softmax at `temperature` T; the cross-entropy is at T = 1. T²
    applies where `t2_scale` is on: it keeps the size of a KL's gradient as T grows (Hinton et al., 2015), so it is the
    default in the KL family and a mere convention elsewhere. `chunk_rows` is how many rows' logits exist at a time.
    `compile` compiles the arithmetic between the matrix products, where a compiler is found.
    """

    temperature: float = 1.0
    hard_weight: float = 0.0
    t2_scale: bool = False
    chunk_rows: Any = "auto"
    compile: bool = False

    space: ClassVar[str] = "log_probability"
    """What `divergence` reads: "log_probability" (log-softmax at T) or "logit" (logits / T)."""
    needs_teacher: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"loss.temperature={self.temperature}: must be > 0 and finite")
        if not 0 <= self.hard_weight <= 1:
            raise ValueError(f"loss.hard_weight={self.hard_weight}: must be between 0 and 1")
        rows = self.chunk_rows
        if rows != "auto" and not (isinstance(rows, int) and not isinstance(rows, bool) and rows > 0):
            raise ValueError(f"loss.chunk_rows={rows}: must be 'auto' or a whole number > 0")

    def divergence(self, student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
        """The divergence of each row `[N]`, in nats, >= 0 and 0 at p = q."""
        raise TypeError(f"{type(self).__name__} does not define divergence()")

    def closed_form(
        self, student_NV: Tensor, teacher_NV: Tensor, q_NV: Tensor, p_NV: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """`divergence` `[N]` and its gradient with respect to the student's logits / T `[N, V]`, or None: use autograd.

        `student_NV` and `teacher_NV` are what `divergence` reads, `q_NV` and `p_NV` their exponentials. All four are
        scratch: overwrite them freely. A gradient built inside `q_NV` saves the engine a copy. Not for "logit" space.
        """
        return None
