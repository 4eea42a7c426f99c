"""The engine of the cross-tokenizer losses: as `losses.engine`, with a chunk of either side's logits at a time.

    out = cross_loss(CROSS_LOSSES["uld"](), rows, matched=matched, count=rows_of_the_whole_step)
    out.loss.backward()

The student's rows are walked in chunks, and with each chunk the teacher's rows that it is compared with. Rows that
nothing is asked of (outside of spans, or not the first of one, where labels have no weight) are left out of the walk.

Shape letters: N rows of the student, n rows of one chunk, k rows of the teacher beside it, V student's vocabulary, W
teacher's vocabulary, H hidden.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdlab.losses.cross.entries import Entries
from kdlab.losses.cross.tile import Taught, tile
from kdlab.losses.cross.work import Picked, Work
from kdlab.losses.engine import LossOutput, Terms, Walked, in_graph
from kdlab.losses.sides import Gradients, Reader, spans, tile_rows

if TYPE_CHECKING:
    from kdlab.losses.cross.base import CrossLoss
    from kdlab.rows import PairRows
    from kdlab.text.vocabulary import Matched


def cross_loss(loss: CrossLoss, rows: PairRows, *, matched: Matched, count: float) -> LossOutput:
    """`((1 - hard_weight) Σ_spans D + hard_weight Σ_rows CE) / count`; see the loss for D.

    All else is as in `losses.engine.row_loss`. `matched` may lie on another device than the rows.
    """
    assert count > 0 or len(rows) == 0, count
    return in_graph(partial(walk, loss, rows, matched, count or 1.0), rows.student)


def walk(loss: CrossLoss, rows: PairRows, matched: Matched, count: float, needed: tuple[bool, ...]) -> Walked:
    """Loss, divergence sum, cross-entropy sum, and the gradients `needed` of (hidden or logits, weight, bias)."""
    hard = loss.hard_weight
    temperature = loss.temperature if hard < 1 else 1.0
    terms = Terms(temperature=temperature, soft=1 - hard, hard=hard, largest=max(1 - hard, hard * temperature))
    device = rows.labels_N.device
    with torch.autocast(device.type, enabled=False), torch.no_grad():
        work = Work.of(loss, rows, temperature, gradient=any(needed))
        entries = Entries.of(matched, rows.student.vocabulary, rows.teacher.vocabulary, device)
        layout = Layout(loss, work, max(rows.student.vocabulary, rows.teacher.vocabulary), device)
        student = Reader(work.student, temperature, layout.longest)
        teacher = None
        if len(work.teacher_P):
            teacher = Picked(rows.teacher, work.teacher_P, temperature, layout.most_pairs)
        gradients = Gradients(student, work.student, needed, terms.largest / count) if any(needed) else None
        run = partial(tile, loss, terms.plan(student, teacher), entries)
        divergence, surprise = work.merged.clone(), torch.zeros_like(work.merged)
        for start, end in layout.chunks:
            student_nV = student.chunk(start, end)
            teacher_kW = None if teacher is None else teacher.chunk(*layout.pairs(start, end))
            out_nV = None if gradients is None else gradients.out(student_nV, start, end)
            for first, last in layout.tiles(start, end):
                part = slice(first - start, last - start)
                taught = layout.taught(work, teacher_kW, start, first, last)
                out_rV = None if out_nV is None else out_nV[part]
                value_p, hard_r = run(student_nV[part], taught, work.labels_N[first:last], out_rV)
                if value_p is not None:
                    divergence += value_p.sum()
                if hard_r is not None:
                    surprise += hard_r.sum()
            if gradients is not None and out_nV is not None:
                gradients.add(out_nV, start, end)
        if gradients is not None and gradients.hidden_NH is not None and work.kept_N is not None:
            all_NH = gradients.hidden_NH.new_zeros(len(rows), gradients.hidden_NH.shape[1])
            gradients.hidden_NH = all_NH.index_copy_(0, work.kept_N, gradients.hidden_NH)
        total = (terms.soft * divergence + terms.hard * surprise) / count
    return total, divergence, surprise if hard > 0 else None, gradients


class Layout:
    """Which rows each chunk and tile has, and which pairs and merged rows are among them: known before the walk."""

    def __init__(self, loss: CrossLoss, work: Work, widest: int, device: torch.device) -> None:
        rows = len(work.labels_N)
        self.chunks = spans(rows, widest, loss.chunk_rows, device)
        self.step = max(tile_rows(widest, device), loss.least_tile_rows)
        edges = [*(first for start, end in self.chunks for first, _ in self.tiles(start, end)), rows]
        self.pair_at, self.merged_at = _places(work.student_P, edges), _places(work.student_R, edges)
        self.longest = max((end - start for start, end in self.chunks), default=0)
        self.most_pairs = max((self.pair_at[end] - self.pair_at[start] for start, end in self.chunks), default=0)

    def tiles(self, start: int, end: int) -> list[tuple[int, int]]:
        return [(first, min(first + self.step, end)) for first in range(start, end, self.step)]

    def pairs(self, start: int, end: int) -> tuple[int, int]:
        return self.pair_at[start], self.pair_at[end]

    def taught(self, work: Work, teacher_kW: Tensor | None, start: int, first: int, last: int) -> Taught:
        """What the teacher says in the tile of the rows `first` to `last`, of a chunk that begins at `start`."""
        (low, high), before = self.pairs(first, last), self.pair_at[start]
        merged = slice(self.merged_at[first], self.merged_at[last])
        return Taught(
            teacher_pW=teacher_kW[low - before : high - before] if teacher_kW is not None and low < high else None,
            at_p=work.student_P[low:high] - first,
            at_m=work.student_R[merged] - first,
            slope_m=work.slope_R[merged],
        )


def _places(index_P: Tensor, edges: list[int]) -> dict[int, int]:
    """How many of the rising rows come before each edge."""
    found = torch.searchsorted(index_P, torch.tensor(edges, device=index_P.device))
    return dict(zip(edges, found.tolist(), strict=True))
