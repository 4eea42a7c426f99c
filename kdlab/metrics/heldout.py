"""How well the student predicts held-out data, per token over the whole split, beside its teacher.

    sums = sum((measure(rows) for rows in ...), RowSums())
    sums.result()["kl"]

Shape letters: N rows, V vocabulary, H hidden, C rows of one chunk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kdlab.rows import Dense, Projected, Rows, Side


@dataclass(frozen=True, kw_only=True)
class RowSums:
    """Sums over rows, in float64, that add up over chunks, batches and ranks. `RowSums()` is the zero.

    `nll` and `teacher_nll` sum -log q(label) and -log p(label), `kl` sums KL(p‖q) with p the teacher and q the student,
    all in nats at temperature 1. `agreements` counts rows where both put the same token first. The last three are None
    where no teacher was there to compare with.
    """

    rows: int = 0
    nll: float = 0.0
    kl: float | None = None
    teacher_nll: float | None = None
    agreements: int | None = None

    def __add__(self, other: RowSums) -> RowSums:
        if self.rows == 0:
            return other
        if other.rows == 0:
            return self
        rows, nll = self.rows + other.rows, self.nll + other.nll
        if self.kl is None or self.teacher_nll is None or self.agreements is None:
            assert other.kl is None, "rows with and without a teacher do not add up"
            return RowSums(rows=rows, nll=nll)
        assert other.kl is not None, "rows with and without a teacher do not add up"
        assert other.teacher_nll is not None
        assert other.agreements is not None
        return RowSums(
            rows=rows,
            nll=nll,
            kl=self.kl + other.kl,
            teacher_nll=self.teacher_nll + other.teacher_nll,
            agreements=self.agreements + other.agreements,
        )

    def result(self) -> dict[str, float]:
        """`rows`, `nll` (nats per token) and `perplexity` = exp(nll); with a teacher also `kl` (nats per token),
        `teacher_nll`, `teacher_perplexity` and `top1_agreement` (0 to 1).

        A perplexity beyond the largest float is inf. Raises ValueError where there are no rows.
        """
        if self.rows == 0:
            raise ValueError("dataset.heldout: the held-out data has no supervised token; hold out more examples")
        result = {"rows": self.rows, "nll": self.nll / self.rows, "perplexity": _perplexity(self.nll / self.rows)}
        if self.kl is not None and self.teacher_nll is not None and self.agreements is not None:
            teacher_nll = self.teacher_nll / self.rows
            result |= {
                "kl": self.kl / self.rows,
                "teacher_nll": teacher_nll,
                "teacher_perplexity": _perplexity(teacher_nll),
                "top1_agreement": self.agreements / self.rows,
            }
        return result


@torch.no_grad()
def measure(rows: Rows, *, chunk_rows: int = 256) -> RowSums:
    """The sums of these rows. At most `chunk_rows` rows of logits exist at once, in three buffers that are reused.

    Softmax is taken in float32, or in float64 where a side is float64; lower precisions end with the logits. A token
    that the teacher rules out (logit -inf) adds nothing to the KL; one that only the student rules out makes it inf.
    """
    assert chunk_rows > 0
    total = RowSums()
    if len(rows) == 0:
        return total
    sides = [rows.student] if rows.teacher is None else [rows.student, rows.teacher]
    dtype = torch.float64 if any(_dtype(side) == torch.float64 for side in sides) else torch.float32
    shape = (min(chunk_rows, len(rows)), rows.student.vocabulary)
    buffers = [torch.empty(shape, dtype=dtype, device=rows.labels_N.device) for _ in range(1 + len(sides))]
    for start in range(0, len(rows), chunk_rows):
        stop = min(start + chunk_rows, len(rows))
        chunk_buffers = [buffer[: stop - start] for buffer in buffers]
        total += _chunk(rows, slice(start, stop), chunk_buffers)
    return total


def _chunk(rows: Rows, part: slice, buffers: list[Tensor]) -> RowSums:
    """The sums of rows `part`. `buffers` are [C, V] each: logits and then p, log q and, with a teacher, log p."""
    labels_C1 = rows.labels_N[part].unsqueeze(1)
    work_CV, student_CV = buffers[0], buffers[1]
    _logits(rows.student, part, out=work_CV)
    student_top_C = work_CV.argmax(1)
    torch.log_softmax(work_CV, 1, out=student_CV)
    nll_C = -student_CV.gather(1, labels_C1).squeeze(1)
    if rows.teacher is None:
        return RowSums(rows=len(nll_C), nll=_sum(nll_C))

    teacher_CV = buffers[2]
    _logits(rows.teacher, part, out=work_CV)
    agreements_C = work_CV.argmax(1) == student_top_C
    torch.log_softmax(work_CV, 1, out=teacher_CV)
    teacher_nll_C = -teacher_CV.gather(1, labels_C1).squeeze(1)
    p_CV = torch.exp(teacher_CV, out=work_CV)
    # 0 * log 0 is 0 in a KL, but nan in floats.
    terms_CV = teacher_CV.sub_(student_CV).mul_(p_CV).masked_fill_(p_CV == 0, 0.0)
    # Rounding can leave an equal pair a hair below 0, which no KL is.
    kl_C = terms_CV.sum(1).clamp_min_(0.0)
    return RowSums(
        rows=len(nll_C),
        nll=_sum(nll_C),
        kl=_sum(kl_C),
        teacher_nll=_sum(teacher_nll_C),
        agreements=int(agreements_C.sum()),
    )


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
