"""ULD and its hybrid: sorted probabilities, which need no vocabulary in common. Importable without torch.

Shape letters: P compared rows, V student's vocabulary, W teacher's vocabulary, K matched entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdlab.losses.base import kl, mixture
from kdlab.losses.cross.base import CrossLoss
from kdlab.losses.cross.coarse import log_mass

if TYPE_CHECKING:
    from torch import Tensor

    from kdlab.losses.cross.entries import Entries


def sorted_distance(q_PV: Tensor, p_PW: Tensor, top: int | None) -> Tensor:
    """Σ_i |p_(i) - q_(i)| `[P]` of masses sorted from the largest, the shorter side padded with zeros.

    With `top`, only the `top` largest of each side are sorted; what is left of either side counts as one more entry.
    """
    longest = max(q_PV.shape[1], p_PW.shape[1])
    kept = longest if top is None else min(top, longest)
    q_Pk, p_Pk = _largest(q_PV, kept), _largest(p_PW, kept)
    common = min(q_Pk.shape[1], p_Pk.shape[1])
    distance_P = (q_Pk[:, :common] - p_Pk[:, :common]).abs().sum(-1)
    distance_P = distance_P + q_Pk[:, common:].sum(-1) + p_Pk[:, common:].sum(-1)
    if kept < longest:
        left_P = (q_PV.sum(-1) - q_Pk.sum(-1)) - (p_PW.sum(-1) - p_Pk.sum(-1))
        distance_P = distance_P + left_P.abs()
    return distance_P


def _largest(mass_PV: Tensor, kept: int) -> Tensor:
    if kept >= mass_PV.shape[1]:
        return mass_PV.sort(-1, descending=True).values
    return mass_PV.topk(kept, -1).values


@dataclass(kw_only=True)
class ULD(CrossLoss):
    """Σ_i |p_(i) - q_(i)|, both sorted from the likeliest, at the first row of each span (Boizard et al., 2024).

    Between 0 and 2. It matches how sure the teacher is, never of what: the labels say that, so `hard_weight` is the
    authors' CE + 1.5 ULD, as shares. 0 and stationary at equal probabilities, but with a kink there, as every L1.

    `top` sorts only so many of the likeliest and compares the mass beyond as one entry; the value then falls short by
    twice the smaller mass beyond, at most. null sorts all, as the authors do: on CPUs ten times as slow.
    """

    hard_weight: float = 0.4
    top: int | None = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top is not None and self.top < 1:
            raise ValueError(f"loss.top={self.top}: must be a whole number > 0, or null to sort the whole vocabulary")

    def divergence(self, student_PV: Tensor, teacher_PW: Tensor, entries: Entries) -> Tensor:
        return sorted_distance(student_PV.exp(), teacher_PW.exp(), self.top)


@dataclass(kw_only=True)
class ULDHybrid(ULD):
    """w JSD(p', q') + (1 - w) Σ_i |p°_(i) - q°_(i)|, at the first row of each span (after TRL's GOLD, 2025).

    p' and q' are the probabilities of the K matched entries and, as one more, the mass of all others: a true coarse-
    graining, so the Jensen-Shannon divergence (half and half) is >= 0 and 0 only where all K agree. p° and q° are the
    probabilities of the entries that have no match, sorted as in `uld`.

    w is `matched_weight`; null takes, at each row, the share of the teacher's probability that lies on matched entries
    (at T; no gradient): what the teacher says in shared words is learnt word by word, what it says in others by shape.
    GOLD's own null is one number, the share of matched *entries*, and its JSD is of probabilities that do not sum to 1.
    """

    matched_weight: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.matched_weight is not None and not 0 <= self.matched_weight <= 1:
            raise ValueError(
                f"loss.matched_weight={self.matched_weight}: must be between 0 and 1, or null for the share of the "
                "teacher's probability that is matched"
            )

    def divergence(self, student_PV: Tensor, teacher_PW: Tensor, entries: Entries) -> Tensor:
        student_PK, teacher_PK = student_PV[:, entries.student_K], teacher_PW[:, entries.teacher_K]
        student_Pu, teacher_Pu = student_PV[:, entries.student_rest], teacher_PW[:, entries.teacher_rest]
        matched_P = jensen_shannon(student_PK, teacher_PK)
        matched_P = matched_P + jensen_shannon(log_mass(student_Pu)[:, None], log_mass(teacher_Pu)[:, None])
        unmatched_P = sorted_distance(student_Pu.exp(), teacher_Pu.exp(), self.top)
        if self.matched_weight is None:
            weight_P = teacher_PK.exp().sum(-1).clamp(max=1)
            return weight_P * matched_P + (1 - weight_P) * unmatched_P
        return self.matched_weight * matched_P + (1 - self.matched_weight) * unmatched_P


def jensen_shannon(student_PK: Tensor, teacher_PK: Tensor) -> Tensor:
    """The part of JSD(p, q), half and half, that these entries give, from their log-probabilities."""
    middle_PK = mixture(teacher_PK, student_PK, 0.5)
    return (kl(teacher_PK, middle_PK) + kl(student_PK, middle_PK)) / 2
