"""The row loss engine: any row loss over any rows, with a chunk of logits in memory at a time.

    out = row_loss(LOSSES["forward_kl"](temperature=2.0), rows, count=rows_of_the_whole_step)
    out.loss.backward()

The forward walks the rows in chunks. For each it computes the logits of both sides into buffers that are reused, the
loss of every row and its gradient, and from that the gradient of hidden states, head weight and bias; then the chunk is
gone. The backward hands these gradients over. No `[N, V]` tensor exists unless the caller brings one (`Dense`).

Shape letters: N rows, V vocabulary or classes, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kdlab.losses.base import RowLoss
from kdlab.losses.compiled import Tile, tile_for
from kdlab.losses.sides import Gradients, Reader, math_dtype, spans, tile_rows
from kdlab.losses.sparse import SPARSE_TILE, Kept, as_read, read_sparse, sparse_tile
from kdlab.losses.tile import Plan
from kdlab.rows import Projected, Rows, Sampled, Side, Signal, TopK


@dataclass(frozen=True, kw_only=True)
class LossOutput:
    """`loss`: the weighted sum over rows / count, a scalar with its graph. The others are plain sums over the rows.

    `divergence` is raw: before T² and weights, 0 where the loss has no teacher term. `hard` is the cross-entropy at
    T = 1, in nats, times the weights of the rows where they have some; None where `hard_weight` is 0.
    """

    loss: Tensor
    divergence: Tensor
    hard: Tensor | None


def row_loss(loss: RowLoss, rows: Rows, *, count: float) -> LossOutput:
    """`Σ_rows [(1 - hard_weight) T² D + hard_weight weight_row CE] / count`; see `RowLoss` for the terms.

    `count` is the number of rows of the whole optimiser step: all micro-batches, all ranks. Products run in the hidden
    states' type, softmax and sums in float32 (float64 for float64). No rows give a loss of 0 with zero gradients. The
    gradients can be taken once: a second backward through the same loss raises RuntimeError.

    `rows.weight_N` (None: 1) weighs the labels' term alone, in value and gradient; the sum is divided by `count` as
    always. Weights whose mean over the training rows is 1, such as N / (C N_c), keep the size of the loss.

    From a `TopK` D is over its K entries and one bucket of all others: exact, and at most what it is over all entries.
    From `Sampled` it is Σ w (-log q) - H(p), which estimates KL(p ‖ q) without bias: a row's may be below 0. Without
    the entropy it is KL(w ‖ q), which is larger on average; the gradient q - w is the same.

    Raises ValueError where the loss needs a teacher and the rows have none, or a signal that it cannot read.
    """
    if rows.teacher is None and loss.hard_weight < 1:
        raise ValueError("loss: it compares with a teacher and there is none; choose a teacher, or loss=hard")
    if loss.hard_weight < 1:
        rows = as_read(loss, rows)
    assert count > 0 or len(rows) == 0, count
    return in_graph(partial(walk, loss, rows, count or 1.0), rows.student)


Walked = tuple[Tensor, Tensor, Tensor | None, Gradients | None]
"""Loss, divergence sum, cross-entropy sum, and the gradients that were asked for."""


def in_graph(walk: Callable[[tuple[bool, ...]], Walked], student: Side) -> LossOutput:
    """What `walk(needed)` gives, with the student's side as its inputs in the graph where gradients are on."""
    inputs: tuple[Tensor | None, ...]
    if isinstance(student, Projected):
        inputs = (student.hidden_NH, student.weight_VH, student.bias_V)
    else:
        inputs = (student.logits_NV, None, None)
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in inputs):
        total, divergence, hard = _Walk.apply(walk, *inputs)  # type: ignore[no-untyped-call]
    else:
        total, divergence, hard, _ = walk((False, False, False))
    return LossOutput(loss=total, divergence=divergence, hard=hard)


@dataclass(frozen=True)
class Terms:
    """The two terms of a loss with their weights, and how a tile weighs them.

    In a tile everything is d/d(logits / T), and the larger weight is 1, so that float16 holds the gradient.
    """

    temperature: float
    soft: float
    hard: float
    largest: float

    @classmethod
    def of(cls, loss: RowLoss) -> Terms:
        hard = loss.hard_weight
        temperature = loss.temperature if hard < 1 else 1.0
        soft = (1 - hard) * (temperature**2 if loss.t2_scale else 1.0)
        return cls(temperature=temperature, soft=soft, hard=hard, largest=max(soft, hard * temperature))

    def plan(self, student: Reader, teacher: Reader | None) -> Plan:
        return Plan(
            student=student.tempering,
            teacher=None if teacher is None else teacher.tempering,
            temperature=self.temperature,
            with_hard=self.hard > 0,
            soft=self.soft / self.largest,
            hard=self.hard * self.temperature / self.largest,
            student_masked=student.can_mask,
            teacher_masked=teacher is not None and teacher.can_mask,
        )


def walk(loss: RowLoss, rows: Rows, count: float, needed: tuple[bool, ...]) -> Walked:
    """Loss, divergence sum, cross-entropy sum, and the gradients `needed` of (hidden or logits, weight, bias)."""
    terms = Terms.of(loss)
    device, vocabulary = rows.labels_N.device, rows.student.vocabulary
    chunks = spans(len(rows), vocabulary, loss.chunk_rows, device)
    longest = max((end - start for start, end in chunks), default=0)
    with torch.autocast(device.type, enabled=False), torch.no_grad():
        student = Reader(rows.student, terms.temperature, longest)
        teacher = _teacher(rows.teacher, terms, student, longest)
        gradients = Gradients(student, rows.student, needed, terms.largest / count) if any(needed) else None
        tile, step = _tile(loss, terms, student, teacher, longest)
        weight_N = None if rows.weight_N is None else rows.weight_N.to(math_dtype(student.dtype))
        value_N = torch.zeros(len(rows), dtype=math_dtype(student.dtype), device=device)
        hard_N = torch.zeros_like(value_N)
        for start, end in chunks:
            student_nV = student.chunk(start, end)
            teacher_nV = None if teacher is None else teacher.chunk(start, end)
            out_nV = None if gradients is None else gradients.out(student_nV, start, end)
            for first in range(start, end, step):
                row, part = slice(first, min(first + step, end)), slice(first - start, first - start + step)
                teacher_rV = None if teacher_nV is None else teacher_nV[part]
                out_rV = None if out_nV is None else out_nV[part]
                weight_r = None if weight_N is None else weight_N[row]
                value_r, hard_r = tile(student_nV[part], teacher_rV, rows.labels_N[row], out_rV, weight_r)
                if value_r is not None:
                    value_N[row] = value_r
                if hard_r is not None:
                    hard_N[row] = hard_r
            if gradients is not None and out_nV is not None:
                gradients.add(out_nV, start, end)
        divergence, hard = value_N.sum(), hard_N.sum()
        total = (terms.soft * divergence + terms.hard * hard) / count
    return total, divergence, hard if terms.hard > 0 else None, gradients


def _teacher(signal: Signal | None, terms: Terms, student: Reader, longest: int) -> Reader | Kept | None:
    """What reads the teacher's side a chunk at a time, None where it does not enter the loss."""
    if signal is None or terms.soft == 0:
        return None
    if isinstance(signal, TopK | Sampled):
        return read_sparse(signal, student.dtype)
    return Reader(signal, terms.temperature, longest)


def _tile(
    loss: RowLoss, terms: Terms, student: Reader, teacher: Reader | Kept | None, longest: int
) -> tuple[Tile, int]:
    """The arithmetic of a tile, and how many rows one has."""
    rows = tile_rows(student.vocabulary, student.device)
    if isinstance(teacher, Kept):
        return partial(sparse_tile, loss, terms.plan(student, None)), rows * (
            SPARSE_TILE if student.device.type == "cpu" else 1
        )
    tile, whole_chunks = tile_for(loss, terms.plan(student, teacher), student.device)
    return tile, longest if whole_chunks else rows


class _Walk(torch.autograd.Function):
    """A walk as a node of the graph: its gradients wait in `ctx` from the forward to the backward."""

    @staticmethod
    def forward(
        ctx: Any, walk: Callable[[tuple[bool, ...]], Walked], *inputs: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        total, divergence, hard, gradients = walk(ctx.needs_input_grad[1:])
        assert gradients is not None
        ctx.gradients, ctx.late = gradients.finish(), gradients.late
        ctx.mark_non_differentiable(divergence, *(() if hard is None else (hard,)))
        return total, divergence, hard

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("a row loss's gradients can be taken once: its backward frees them (sum losses instead)")
        (first, weight_VH, bias_V), ctx.gradients = ctx.gradients, None
        for gradient, late in ((first, ctx.late), (weight_VH, 1.0), (bias_V, 1.0)):
            # reading the scalar would make a GPU wait; there a pass over the gradient is cheaper
            if gradient is not None and (gradient.device.type != "cpu" or late * scale != 1):
                gradient.mul_(late * scale)
        return None, first, weight_VH, bias_V
