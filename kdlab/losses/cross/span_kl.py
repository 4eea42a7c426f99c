"""SpanKL: KL where both tokenizers cut alike, and of a span's whole text where they do not. Importable without torch.

Shape letters: P compared rows, S longer spans, V student's vocabulary, W teacher's vocabulary, K matched entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from kdlab.losses.base import kl
from kdlab.losses.cross.base import CrossLoss
from kdlab.losses.cross.coarse import log1mexp, log_mass

if TYPE_CHECKING:
    from torch import Tensor

    from kdlab.losses.cross.entries import Entries


@dataclass(kw_only=True)
class SpanKL(CrossLoss):
    """KL(p ‖ q) of what both sides say of a span, in nats.

    - One token on both sides: KL over the K matched entries and, as one more, the mass of all others. A coarse-
      graining: >= 0, 0 where all K agree, never above the KL of a finer one. A student without other entries cannot
      give them mass, and that part of the KL would be infinite: P KL(p/P ‖ q) is taken, P the teacher's mass on K.
    - Any other span: the text it covers has one probability on each side, P = Π_i p(token_i | before) by the chain
      rule, and it is compared as an event against its complement: KL(Bernoulli(P_teacher) ‖ Bernoulli(P_student)),
      the binarised divergence of Minixhofer et al. (2025). All rows of the span get gradient.

    Both are lower bounds of the KL between what the models say of the text. P counts one tokenisation of it, the one
    that was read. `hard_weight` is the half that Zhang et al. (2024, DSKD) give the labels.
    """

    hard_weight: float = 0.5

    merges: ClassVar[bool] = True

    def divergence(self, student_PV: Tensor, teacher_PW: Tensor, entries: Entries) -> Tensor:
        student_PK, teacher_PK = student_PV[:, entries.student_K], teacher_PW[:, entries.teacher_K]
        value_P = kl(teacher_PK, student_PK)
        if len(entries.student_rest) == 0:
            log_P = log_mass(teacher_PK)
            return value_P - log_P.exp() * log_P
        student_P1 = log_mass(student_PV[:, entries.student_rest])[:, None]
        return value_P + kl(log_mass(teacher_PW[:, entries.teacher_rest])[:, None], student_P1)

    def merged(self, student_S: Tensor, teacher_S: Tensor) -> Tensor:
        said_S = teacher_S.exp() * (teacher_S - student_S)
        return said_S - teacher_S.expm1() * (log1mexp(teacher_S) - log1mexp(student_S))
