"""OptimalTransport: the likeliest tokens of both sides, compared by their strings. Importable without torch.

Shape letters: P compared rows, k likeliest tokens, V student's vocabulary, W teacher's vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from kdlab.losses.cross.base import CrossLoss

if TYPE_CHECKING:
    from torch import Tensor

    from kdlab.losses.cross.entries import Entries

LEAST_EPSILON = 0.02
"""exp(-1 / 0.02) is 2e-22: below, the kernel leaves what float32 can sum."""


@dataclass(kw_only=True)
class OptimalTransport(CrossLoss):
    """The Sinkhorn divergence between the likeliest tokens of both sides, at the first row of each span.

    Both masses lie on the `k` likeliest tokens of either side, on their matches on the other side, and on one entry for
    the rest. Carrying mass from token s to token t costs 1 - (bytes with which both begin) / (bytes of the longer): 0
    for the same string, little for "run" and "runs", 1 for strangers, for the rest, and for a token without a text
    (these are at 0 from each other). With OT(a, b) = min <π, cost> + ε KL(π ‖ a b), ε = `epsilon`,

        D = OT(q, p) - OT(q, q)/2 - OT(p, p)/2

    (Feydy et al., 2019), by `iterations` steps of Sinkhorn in logarithms, with the gradient of the envelope theorem.
    D >= 0, and 0 and stationary at equal masses: exp(-cost / ε) is a positive definite kernel, because common prefixes
    and 1 / max(lengths) are, and so are products and power series of such. Too few iterations give too small a D. The
    value may jump where a token enters or leaves the k likeliest.

    Distributions of two tokenizers compared by optimal transport over their likeliest tokens: Cui et al. (2025), whose
    costs are of sorted logits, not of strings. `hard_weight` as in `span_kl`.
    """

    hard_weight: float = 0.5
    k: int = 20
    iterations: int = 50
    epsilon: float = 0.2

    least_tile_rows: ClassVar[int] = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("k", self.k), ("iterations", self.iterations)):
            if value < 1:
                raise ValueError(f"loss.{name}={value}: must be a whole number > 0")
        if not LEAST_EPSILON <= self.epsilon < float("inf"):
            raise ValueError(f"loss.epsilon={self.epsilon}: must be at least {LEAST_EPSILON} and finite")

    def divergence(self, student_PV: Tensor, teacher_PW: Tensor, entries: Entries) -> Tensor:
        from kdlab.losses.cross.transport import Measure, sinkhorn_divergence

        assert entries.student_spelling is not None, "needs the bytes of the student's tokens"
        assert entries.teacher_spelling is not None, "needs the bytes of the teacher's tokens"
        q_Pk = student_PV.detach().topk(min(self.k, student_PV.shape[1]), -1).indices
        p_Pk = teacher_PW.topk(min(self.k, teacher_PW.shape[1]), -1).indices
        student = Measure.of(student_PV, q_Pk, p_Pk, entries.to_student_W, entries.student_spelling)
        teacher = Measure.of(teacher_PW, p_Pk, q_Pk, entries.to_teacher_V, entries.teacher_spelling)
        return sinkhorn_divergence(student, teacher, epsilon=self.epsilon, iterations=self.iterations)
