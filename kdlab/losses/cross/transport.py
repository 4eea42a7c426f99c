"""Entropic optimal transport between few tokens: which tokens, what it costs to turn one into another, and potentials.

Shape letters: P rows, n and m tokens of two measures, L bytes, V and W entries of a side and the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from kdlab.losses.base import TINY
from kdlab.text.vocabulary import Spelling


@dataclass(frozen=True)
class Measure:
    """Some tokens of one side, their bytes and masses; the last mass is that of all other tokens."""

    bytes_PnL: Tensor
    lengths_Pn: Tensor
    mass_Pm: Tensor
    """`[P, n + 1]`, with its graph."""

    @classmethod
    def of(cls, log_PV: Tensor, own_Pk: Tensor, others_Pk: Tensor, match_W: Tensor, spelling: Spelling) -> Measure:
        """A side's likeliest ids `own_Pk`, then its matches of the other side's likeliest ids.

        A match that is missing, or among the own ones already, stays in the list with mass 0, so that all rows have as
        many.
        """
        matched_Pk = match_W[others_Pk]
        absent_Pk = (matched_Pk < 0) | (matched_Pk[:, :, None] == own_Pk[:, None, :]).any(-1)
        ids_Pn = torch.cat([own_Pk, matched_Pk.clamp(min=0)], 1)
        mass_Pn = log_PV.gather(1, ids_Pn).exp()
        mass_Pn = mass_Pn.masked_fill(pad(absent_Pk, (own_Pk.shape[1], 0)), 0.0)
        mass_Pm = torch.cat([mass_Pn, 1 - mass_Pn.sum(-1, keepdim=True)], 1)
        return cls(spelling.bytes_VL[ids_Pn], spelling.lengths_V[ids_Pn].long(), mass_Pm)

    @property
    def logs(self) -> Tensor:
        """Logarithms of the masses `[P, n + 1]`, without the graph."""
        return self.mass_Pm.detach().clamp(min=TINY).log()


def costs(a: Measure, b: Measure) -> Tensor:
    """1 - (bytes with which both begin) / (bytes of the longer), `[P, n + 1, m + 1]`, and 0 between tokens without.

    The last entry of either side, the mass in no token of the list, is at 0 from itself and 1 from everything else.
    """
    shorter_Pnm = torch.minimum(a.lengths_Pn[:, :, None], b.lengths_Pn[:, None, :])
    longer_Pnm = torch.maximum(a.lengths_Pn[:, :, None], b.lengths_Pn[:, None, :])
    prefix_Pnm = torch.zeros_like(shorter_Pnm)
    same_Pnm = torch.ones_like(shorter_Pnm, dtype=torch.bool)
    for i in range(int(shorter_Pnm.max()) if shorter_Pnm.numel() else 0):
        same_Pnm &= (a.bytes_PnL[:, :, None, i] == b.bytes_PnL[:, None, :, i]) & (shorter_Pnm > i)
        prefix_Pnm += same_Pnm
    share_Pnm = prefix_Pnm.to(a.mass_Pm.dtype) / longer_Pnm.clamp(min=1)
    cost_Pnm = pad((1 - share_Pnm).masked_fill(longer_Pnm == 0, 0.0), (0, 1, 0, 1), value=1.0)
    cost_Pnm[:, -1, -1] = 0.0
    return cost_Pnm


def sinkhorn_divergence(student: Measure, teacher: Measure, *, epsilon: float, iterations: int) -> Tensor:
    """OT(a, b) - OT(a, a)/2 - OT(b, b)/2 `[P]`, from the dual potentials; its gradient is that of the masses alone.

    At the potentials' fixed point the dual is flat in them (the envelope theorem), so they need no graph.
    """
    with torch.no_grad():
        across, own, theirs = ((costs(*pair) / -epsilon).exp() for pair in _pairs(student, teacher))
        a_Pn, b_Pm = student.logs, teacher.logs
        f_Pn, g_Pm = torch.zeros_like(a_Pn), torch.zeros_like(b_Pm)
        own_Pn, theirs_Pm = torch.zeros_like(a_Pn), torch.zeros_like(b_Pm)
        for i in range(iterations):
            step = 1.0 if i == iterations - 1 else 0.5
            f_Pn, g_Pm = (
                f_Pn.lerp(soft_min(across, b_Pm, g_Pm, epsilon), step),
                g_Pm.lerp(soft_min(across.mT, a_Pn, f_Pn, epsilon), step),
            )
            own_Pn = own_Pn.lerp(soft_min(own, a_Pn, own_Pn, epsilon), step)
            theirs_Pm = theirs_Pm.lerp(soft_min(theirs, b_Pm, theirs_Pm, epsilon), step)
    return (student.mass_Pm * (f_Pn - own_Pn)).sum(-1) + (teacher.mass_Pm * (g_Pm - theirs_Pm)).sum(-1)


def _pairs(student: Measure, teacher: Measure) -> list[tuple[Measure, Measure]]:
    return [(student, teacher), (student, student), (teacher, teacher)]


def soft_min(kernel_Pnm: Tensor, log_Pm: Tensor, potential_Pm: Tensor, epsilon: float) -> Tensor:
    """-ε log Σ_m exp(log_m + (potential_m - cost_nm) / ε) `[P, n]`, with kernel = exp(-cost / ε).

    Costs are 1 at most, so the kernel is no smaller than exp(-1 / ε): only the vector's logarithms need care.
    """
    weight_Pm = log_Pm + potential_Pm / epsilon
    largest_P1 = weight_Pm.amax(-1, keepdim=True)
    sums_Pn = (kernel_Pnm @ (weight_Pm - largest_P1).exp()[:, :, None])[:, :, 0]
    return -epsilon * (sums_Pn.log() + largest_P1)
