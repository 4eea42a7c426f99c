"""How well the student predicts held-out data, per token over the whole split, beside its teacher.

    sums = sum((measure(rows) for rows in ...), RowSums())
    sums.result()["kl"]

Shape letters: N rows, V vocabulary, H hidden, C rows of one chunk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kdlab.losses.sparse import spread
from kdlab.metrics.sparse import kl_of_draws, kl_of_top, label_logp
from kdlab.rows import Dense, Projected, Rows, Sampled, Side, TopK

LOWER_BOUND = "lower bound"
ESTIMATE = "unbiased estimate"


@dataclass(frozen=True, kw_only=True)
class RowSums:
    """Sums over rows, in float64, that add up over chunks, batches and ranks. `RowSums()` is the zero.

    `nll` and `teacher_nll` sum -log q(label) and -log p(label), `kl` sums KL(p‖q) with p the teacher and q the student,
    all in nats at temperature 1. `agreements` counts rows where both put the same token first. These three are None
    where no teacher was there to compare with, or one that does not tell. `teacher_unknown` counts the rows that
    `teacher_nll` lacks because the teacher does not tell of their label. `teacher_cut` and `student_cut` sum the
    probability that each side loses where its vocabulary is cut to the ids that both have; None where nothing is cut.

    `kl_is` says what `kl` is where it is not exact: "lower bound" (`TopK`: over the kept entries and one bucket of all
    others) or "unbiased estimate" (`Sampled`). Sums of different kinds do not add up.
    """

    rows: int = 0
    nll: float = 0.0
    kl: float | None = None
    teacher_nll: float | None = None
    agreements: int | None = None
    teacher_cut: float | None = None
    student_cut: float | None = None
    teacher_unknown: int = 0
    kl_is: str | None = None

    def __add__(self, other: RowSums) -> RowSums:
        if self.rows == 0:
            return other
        if other.rows == 0:
            return self
        assert self.kl_is == other.kl_is, f"kl: {self.kl_is or 'exact'} and {other.kl_is or 'exact'} do not add up"
        added: dict[str, int | float | str | None] = {"kl_is": self.kl_is}
        for name, value in vars(self).items():
            if name == "kl_is":
                continue
            more = getattr(other, name)
            assert (value is None) == (more is None), f"{name}: rows with and without it do not add up"
            added[name] = None if value is None else value + more
        return RowSums(**added)  # type: ignore[arg-type]

    def result(self) -> dict[str, float]:
        """`rows`, `nll` (nats per token) and `perplexity` = exp(nll); with a teacher also `kl` (nats per token),
        `teacher_nll`, `teacher_perplexity` and `top1_agreement` (0 to 1). Where the vocabularies are cut, all of them
        are of what is left, and `teacher_cut_mass` and `student_cut_mass` say how much probability was cut, on average.
        What a sparse teacher does not tell is not there.

        A perplexity beyond the largest float is inf. Raises ValueError where there are no rows.
        """
        if self.rows == 0:
            raise ValueError("dataset.heldout: the held-out data has no supervised token; hold out more examples")
        result = {"rows": self.rows, "nll": self.nll / self.rows, "perplexity": _perplexity(self.nll / self.rows)}
        if self.kl is not None:
            result["kl"] = self.kl / self.rows
        if self.teacher_nll is not None and self.teacher_unknown == 0:
            teacher_nll = self.teacher_nll / self.rows
            result |= {"teacher_nll": teacher_nll, "teacher_perplexity": _perplexity(teacher_nll)}
        if self.agreements is not None:
            result["top1_agreement"] = self.agreements / self.rows
        for name, cut in (("teacher_cut_mass", self.teacher_cut), ("student_cut_mass", self.student_cut)):
            if cut is not None:
                result[name] = cut / self.rows
        return result


@torch.no_grad()
def measure(rows: Rows, *, chunk_rows: int = 256) -> RowSums:
    """The sums of these rows. At most `chunk_rows` rows of logits exist at once, in buffers that are reused.

    Softmax is taken in float32, or in float64 where a side is float64; lower precisions end with the logits. A token
    that the teacher rules out (logit -inf) adds nothing to the KL; one that only the student rules out makes it inf.

    A `TopK` gives a lower bound of the KL, `Sampled` an unbiased estimate where it has the entropies, and no agreement.
    Where it was taken at another temperature than 1, neither tells the KL at 1, only the token that is first and the
    log-probability of the label.
    """
    assert chunk_rows > 0
    total = RowSums()
    if len(rows) == 0:
        return total
    if isinstance(rows.teacher, TopK) and rows.teacher.ids_NK.shape[1] == rows.teacher.vocabulary:
        rows = replace(rows, teacher=spread(rows.teacher))
    sides = [rows.student]
    if isinstance(rows.teacher, Dense | Projected):
        sides.append(rows.teacher)
    dtype = torch.float64 if any(_dtype(side) == torch.float64 for side in sides) else torch.float32
    shape = (min(chunk_rows, len(rows)), rows.student.vocabulary)
    buffers = [torch.empty(shape, dtype=dtype, device=rows.labels_N.device) for _ in range(1 + len(sides))]
    for start in range(0, len(rows), chunk_rows):
        part = slice(start, min(start + chunk_rows, len(rows)))
        chunk_buffers = [buffer[: part.stop - start] for buffer in buffers]
        total += _chunk(rows, part, chunk_buffers)
    return total


def _chunk(rows: Rows, part: slice, buffers: list[Tensor]) -> RowSums:
    """The sums of rows `part`. `buffers` are [C, V] each: logits and then p, log q and, with a teacher, log p."""
    labels_C1 = rows.labels_N[part].unsqueeze(1)
    work_CV, student_CV = buffers[0], buffers[1]
    _logits(rows.student, part, out=work_CV)
    student_cut = _cut(rows, rows.student_rest, part, work_CV)
    student_top_C = work_CV.argmax(1)
    torch.log_softmax(work_CV, 1, out=student_CV)
    nll_C = -student_CV.gather(1, labels_C1).squeeze(1)
    alone = RowSums(rows=len(nll_C), nll=_sum(nll_C), student_cut=student_cut)
    if rows.teacher is None:
        return alone
    if isinstance(rows.teacher, TopK | Sampled):
        return _beside_sparse(alone, rows.teacher, part, labels_C1, student_CV, student_top_C, work_CV)
    teacher_CV = buffers[2]
    _logits(rows.teacher, part, out=work_CV)
    teacher_cut = _cut(rows, rows.teacher_rest, part, work_CV)
    agreements_C = work_CV.argmax(1) == student_top_C
    torch.log_softmax(work_CV, 1, out=teacher_CV)
    teacher_nll_C = -teacher_CV.gather(1, labels_C1).squeeze(1)
    p_CV = torch.exp(teacher_CV, out=work_CV)
    # 0 * log 0 is 0 in a KL, but nan in floats.
    terms_CV = teacher_CV.sub_(student_CV).mul_(p_CV).masked_fill_(p_CV == 0, 0.0)
    # Rounding can leave an equal pair a hair below 0, which no KL is.
    kl_C = terms_CV.sum(1).clamp_min_(0.0)
    return replace(
        alone,
        kl=_sum(kl_C),
        teacher_nll=_sum(teacher_nll_C),
        agreements=int(agreements_C.sum()),
        teacher_cut=teacher_cut,
    )


def _beside_sparse(
    alone: RowSums,
    signal: TopK | Sampled,
    part: slice,
    labels_C1: Tensor,
    logq_CV: Tensor,
    student_top_C: Tensor,
    work_CV: Tensor,
) -> RowSums:
    """The student's sums `alone` and what `signal` tells beside them."""
    agreements = None
    if isinstance(signal, TopK):
        first_C1 = signal.logp_NK[part].argmax(1, keepdim=True)
        agreements = int((signal.ids_NK[part].gather(1, first_C1)[:, 0] == student_top_C).sum())
    if signal.temperature != 1:
        if signal.logp_label_N is None:
            return replace(alone, agreements=agreements)
        return replace(alone, agreements=agreements, teacher_nll=-_sum(signal.logp_label_N[part]))
    if isinstance(signal, TopK):
        kl_C: Tensor | None = kl_of_top(signal, part, logq_CV, work_CV)
    else:
        kl_C = kl_of_draws(signal, part, logq_CV)
    logp_C, unknown = label_logp(signal, part, labels_C1)
    return replace(
        alone,
        kl=None if kl_C is None else _sum(kl_C),
        kl_is=None if kl_C is None else LOWER_BOUND if isinstance(signal, TopK) else ESTIMATE,
        teacher_nll=-_sum(logp_C),
        teacher_unknown=unknown,
        agreements=agreements,
    )


def _cut(rows: Rows, rest: Side | None, part: slice, kept_CV: Tensor) -> float | None:
    """The probability that the cut takes from one side of rows `part`, from its logits that were kept and the rest:
    e^r / (e^k + e^r), with r and k their logsumexp. None where neither side of `rows` is cut."""
    if rest is None:
        uncut = rows.teacher_rest is None and rows.student_rest is None
        return None if uncut else 0.0
    rest_CR = kept_CV.new_empty(len(kept_CV), rest.vocabulary)
    _logits(rest, part, out=rest_CR)
    return _sum(torch.sigmoid(rest_CR.logsumexp(1) - kept_CV.logsumexp(1)))


def _logits(side: Side, part: slice, *, out: Tensor) -> None:
    """Write the logits of rows `part` into `out` [C, V]; see `rows.Projected` for the formula."""
    if isinstance(side, Dense):
        out.copy_(side.logits_NV[part])
        return
    hidden_CH = side.hidden_NH[part].to(side.weight_VH.dtype)
    if side.weight_VH.dtype == out.dtype:
        torch.mm(hidden_CH, side.weight_VH.T, out=out)
    else:
        out.copy_(torch.mm(hidden_CH, side.weight_VH.T))
    if side.bias_V is not None:
        out.add_(side.bias_V)
    if side.scale != 1.0:
        out.mul_(side.scale)
    if side.softcap is not None:
        out.div_(side.softcap).tanh_().mul_(side.softcap)


def _dtype(side: Side) -> torch.dtype:
    return side.weight_VH.dtype if isinstance(side, Projected) else side.logits_NV.dtype


def _sum(values_C: Tensor) -> float:
    return float(values_C.cpu().double().sum())


def _perplexity(nll: float) -> float:
    return math.inf if nll > 709.0 else math.exp(nll)
