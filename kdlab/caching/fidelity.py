"""What a codec costs: a teacher's predictions against what is decoded of them, on the same rows.

A wrong signal spoils a student's gradient, so it is the gradient of forward KL with respect to the LM head's weight,
Σ_rows (q - p) hiddenᵀ, that is compared: with the whole teacher and with the decoded one. No second model is at hand,
so two students stand in for real ones, both with the teacher's own hidden states: one that knows nothing (`far`: all
tokens alike) and one that is the teacher, less sure (`near`: its logits over 1.5). Real students err in more ways:
benchmarks/cache.py measures two.

Nothing of size `[V, H]` or `[N, V]` is held: the vocabulary is walked in blocks, twice.

Shape letters: N rows, V vocabulary, v one block of it, H hidden, K entries kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kdlab.rows import Projected, Sampled, Side, Signal, TopK

NEAR = 1.5
BLOCK = 8192
STUDENTS = ("far", "near")


def fidelity(teacher: Side, decoded: Signal) -> dict[str, float | int | None]:
    """Means over the rows; the same on every call:

    - `rows`, and `kl`: KL(full ‖ decoded) in nats, with the mass that `TopK` leaves over spread evenly over the other
      entries (None for draws: a probability of 0 there is no claim);
    - `gradient_error_far`, `gradient_error_near`: the L2 distance of both gradients over the length of the true one;
    - `gradient_angle_far`, `gradient_angle_near`: the angle between them in degrees.

    All at the temperature of the decoded signal. A teacher without hidden states (`Dense`) is judged by the gradient of
    a bias of the logits. None where there are no rows.
    """
    assert len(teacher) == len(decoded), (len(teacher), len(decoded))
    assert teacher.vocabulary == decoded.vocabulary, (teacher.vocabulary, decoded.vocabulary)
    sums = _Sums()
    with torch.no_grad():
        pair = _Pair(teacher, decoded)
        for start in range(0, teacher.vocabulary if len(teacher) else 0, BLOCK):
            pair.add(start, sums)
    rows = len(teacher)
    found: dict[str, float | int | None] = {"rows": rows}
    found["kl"] = sums.kl / rows if rows and not isinstance(decoded, Sampled) else None
    for name in STUDENTS:
        found[f"gradient_error_{name}"] = sums.error(name)
        found[f"gradient_angle_{name}"] = sums.angle(name)
    return found


@dataclass
class _Sums:
    """What the blocks add up to: of each student's gradients g (true) and g + d (decoded), [g·g, g·d, d·d]."""

    kl: float = 0.0
    products: dict[str, list[float]] = field(default_factory=dict)

    def add(self, student: str, true_vH: Tensor, wrong_vH: Tensor) -> None:
        pairs = ((true_vH, true_vH), (true_vH, wrong_vH), (wrong_vH, wrong_vH))
        found = [float((a.double() * b).sum()) for a, b in pairs]
        self.products[student] = [a + b for a, b in zip(self.products.get(student, [0.0] * 3), found, strict=True)]

    def error(self, student: str) -> float | None:
        gg, _, dd = self.products.get(student, [0.0] * 3)
        return math.sqrt(dd / gg) if gg else None

    def angle(self, student: str) -> float | None:
        gg, gd, dd = self.products.get(student, [0.0] * 3)
        both = gg * (gg + 2 * gd + dd)
        return math.degrees(math.acos(max(-1.0, min(1.0, (gg + gd) / math.sqrt(both))))) if both > 0 else None


class _Pair:
    """Both sides, read a block of the vocabulary at a time; the first pass, for the masses, is at construction."""

    def __init__(self, teacher: Side, decoded: Signal) -> None:
        self.teacher, self.decoded = teacher, decoded
        self.temperature = decoded.temperature if isinstance(decoded, TopK | Sampled) else 1.0
        rows, self.vocabulary = len(teacher), teacher.vocabulary
        projected = isinstance(teacher, Projected)
        given = teacher.hidden_NH if isinstance(teacher, Projected) else teacher.logits_NV
        self.device = given.device
        self.hidden_NH = given.float() if projected else torch.ones(rows, 1, device=self.device)
        self.ids_NK = self.logp_NK = self.rest_N = None
        if isinstance(decoded, TopK | Sampled):
            self.ids_NK = decoded.ids_NK.to(self.device)
        if isinstance(decoded, TopK):
            self.logp_NK, self.rest_N = decoded.logp_NK.to(self.device), decoded.rest_N.to(self.device)
        nothing_N = torch.full((rows,), -torch.inf, device=self.device)
        masses = {name: nothing_N.clone() for name in ("teacher", "near", "near others", "decoded")}
        for start in range(0, self.vocabulary, BLOCK):
            for name, values_Nv in self._masses(start).items():
                masses[name] = torch.logaddexp(masses[name], values_Nv.logsumexp(1))
        self.mass = {name: mass_N[:, None] for name, mass_N in masses.items()}

    def add(self, start: int, sums: _Sums) -> None:
        """What the block that begins at `start` adds."""
        logits_Nv = _logits(self.teacher, start) / self.temperature
        logp_Nv = logits_Nv - self.mass["teacher"]
        p_Nv = logp_Nv.exp()
        students = {
            "far": torch.full_like(p_Nv, 1 / self.vocabulary),
            "near": (logits_Nv / NEAR - self.mass["near"]).exp_(),
        }
        if not isinstance(self.decoded, Sampled):
            terms_Nv = p_Nv * (logp_Nv - self._log_decoded(start))
            sums.kl += float(terms_Nv.masked_fill_(p_Nv == 0, 0.0).sum(dtype=torch.float64))
        for name, q_Nv in students.items():
            wrong_Nv = p_Nv - self._target(start, name, q_Nv)
            sums.add(name, (q_Nv - p_Nv).T @ self.hidden_NH, wrong_Nv.T @ self.hidden_NH)

    def _masses(self, start: int) -> dict[str, Tensor]:
        logits_Nv = _logits(self.teacher, start) / self.temperature
        found = {"teacher": logits_Nv, "near": logits_Nv / NEAR}
        if isinstance(self.decoded, TopK):
            found["near others"] = found["near"].masked_fill(self._kept(start, logits_Nv.shape[1]), -torch.inf)
        elif not isinstance(self.decoded, Sampled):
            found["decoded"] = _logits(self.decoded, start).to(self.device)
        return found

    def _log_decoded(self, start: int) -> Tensor:
        """The decoded log-probabilities of a block."""
        if isinstance(self.decoded, TopK):
            assert self.logp_NK is not None
            assert self.rest_N is not None
            others = max(1, self.vocabulary - self.decoded.ids_NK.shape[1])
            width = min(BLOCK, self.vocabulary - start)
            filled_Nv = (self.rest_N - math.log(others))[:, None].expand(-1, width).contiguous()
            return self._scattered(filled_Nv, start, self.logp_NK)
        assert not isinstance(self.decoded, Sampled)
        return _logits(self.decoded, start).to(self.device) - self.mass["decoded"]

    def _target(self, start: int, student: str, q_Nv: Tensor) -> Tensor:
        """What the decoded signal asks of a student in a block, such that its gradient is q - target. Behind the kept
        entries only their mass is known, so there a student keeps its own proportions: q rest / q(all others)."""
        if isinstance(self.decoded, Sampled):
            weight_NK = self.decoded.weight_NK.to(self.device)
            return self._scattered(torch.zeros_like(q_Nv), start, weight_NK, add=True)
        if not isinstance(self.decoded, TopK):
            return self._log_decoded(start).exp_()
        assert self.logp_NK is not None
        assert self.rest_N is not None
        others = self.vocabulary - self.decoded.ids_NK.shape[1]
        own_N1 = torch.full_like(self.mass["near"], math.log(max(1, others) / self.vocabulary))
        if student == "near":
            own_N1 = self.mass["near others"] - self.mass["near"]
        ratio_N1 = (self.rest_N[:, None] - own_N1).exp_().masked_fill_(own_N1 == -torch.inf, 0.0)
        return self._scattered(q_Nv * ratio_N1, start, self.logp_NK.exp())

    def _kept(self, start: int, width: int) -> Tensor:
        assert self.ids_NK is not None
        none_Nv = torch.zeros(len(self.ids_NK), width, device=self.device)
        return self._scattered(none_Nv, start, torch.ones_like(self.ids_NK, dtype=torch.float32)).bool()

    def _scattered(self, into_Nv: Tensor, start: int, values_NK: Tensor, *, add: bool = False) -> Tensor:
        """Values at the ids that lie in the block, put or added."""
        assert self.ids_NK is not None
        here_NK = (self.ids_NK >= start) & (self.ids_NK < start + into_Nv.shape[1])
        rows, places = here_NK.nonzero(as_tuple=True)
        columns = self.ids_NK[rows, places].long() - start
        return into_Nv.index_put_((rows, columns), values_NK[rows, places].to(into_Nv.dtype), accumulate=add)


def _logits(side: Side, start: int) -> Tensor:
    """A block of logits in float32."""
    part = slice(start, start + BLOCK)
    if isinstance(side, Projected):
        bias_V = None if side.bias_V is None else side.bias_V[part].float()
        hidden_NH, weight_vH = side.hidden_NH.float(), side.weight_VH[part].float()
        return (
            Projected(hidden_NH=hidden_NH, weight_VH=weight_vH, bias_V=bias_V, scale=side.scale, softcap=side.softcap)
            .dense()
            .logits_NV
        )
    return side.logits_NV[:, part].float()
