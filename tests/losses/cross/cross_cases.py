"""Rows of two tokenizers for the tests of the cross losses, and every loss written out plainly, span by span.

Shape letters: N rows of the student, M rows of the teacher, V and W their vocabularies, H and G their hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlab.losses import CROSS_LOSSES
from kdlab.losses.cross import CrossLoss
from kdlab.losses.cross.engine import cross_loss
from kdlab.losses.engine import LossOutput
from kdlab.rows import Dense, PairRows, Projected, Side
from kdlab.text.vocabulary import Matched, spelling_table

STUDENT = [b"a", b"b", b"ab", b" a", b" ab", b"", b"ba", b"abc", b"\xc3", b"\xa9", b" b", b"bb", b"abab"]
TEACHER = [
    b"",
    b"abc",
    b"a",
    b"aa",
    b" a",
    b"b",
    b"\xc3\xa9",
    b" abc",
    b"ab",
    b"c",
    b"bab",
    b"\xa9",
    b" ",
    b"bc",
    b"cc",
]
STUDENT_SPANS = [-1, 0, 1, 1, 2, 3, 3, 3, 4, -1, 5, 6]
TEACHER_SPANS = [0, 0, 1, 2, 3, 3, 4, -1, 5, 5, 5, 6, -1]
"""One to two, two to one, one to one, three to two, one to one, one to three, one to one."""

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in CROSS_LOSSES),
    ("uld", {"top": None}),
    ("uld", {"top": 1}),
    ("uld", {"top": 4}),
    ("uld", {"top": 14}),
    ("uld_hybrid", {"top": 3}),
    ("uld_hybrid", {"matched_weight": 0.0}),
    ("uld_hybrid", {"matched_weight": 0.7, "top": None}),
    ("optimal_transport", {"k": 3, "epsilon": 0.5, "iterations": 120}),
    ("optimal_transport", {"k": 1, "epsilon": 1.0, "iterations": 60}),
]
every_loss = pytest.mark.parametrize("name", list(CROSS_LOSSES))
every_option = pytest.mark.parametrize(
    ("name", "options"),
    OPTIONS,
    ids=[name + "".join(f"-{k}={v}" for k, v in options.items()) for name, options in OPTIONS],
)


def make(name: str, **options: Any) -> CrossLoss:
    return CROSS_LOSSES[name](**{"hard_weight": 0.0, **options})


def same_strings(student: list[bytes], teacher: list[bytes]) -> Matched:
    """Ids of equal strings, the empty one among them."""
    pairs = [(i, teacher.index(string)) for i, string in enumerate(student) if string in teacher]
    return Matched(
        student_K=torch.tensor([i for i, _ in pairs], dtype=torch.long),
        teacher_K=torch.tensor([j for _, j in pairs], dtype=torch.long),
        student_spelling=spelling_table([string or None for string in student]),
        teacher_spelling=spelling_table([string or None for string in teacher]),
    )


@dataclass(kw_only=True)
class Case:
    """Both sides of some rows, with leaves that take gradients on the student's."""

    student: Side
    teacher: Side
    labels_N: Tensor
    teacher_labels_M: Tensor
    student_spans: list[int]
    teacher_spans: list[int]
    student_strings: list[bytes]
    teacher_strings: list[bytes]

    @property
    def leaves(self) -> list[Tensor]:
        side = self.student
        tensors = [side.logits_NV] if isinstance(side, Dense) else [side.hidden_NH, side.weight_VH, side.bias_V]
        return [tensor for tensor in tensors if tensor is not None and tensor.requires_grad]

    @property
    def matched(self) -> Matched:
        return same_strings(self.student_strings, self.teacher_strings)

    def rows(self) -> PairRows:
        return PairRows(
            student=self.student,
            teacher=self.teacher,
            labels_N=self.labels_N,
            teacher_labels_M=self.teacher_labels_M,
            student_span_N=torch.tensor(self.student_spans, dtype=torch.long),
            teacher_span_M=torch.tensor(self.teacher_spans, dtype=torch.long),
            spans=1 + max(self.student_spans, default=-1),
        )

    def output(self, loss: CrossLoss, *, count: float = 5.0) -> LossOutput:
        return cross_loss(loss, self.rows(), matched=self.matched, count=count)

    def run(self, loss: CrossLoss, *, count: float = 5.0) -> tuple[LossOutput, list[Tensor]]:
        """The engine's output and the gradients of the leaves."""
        out = self.output(loss, count=count)
        return out, list(torch.autograd.grad(out.loss, self.leaves))

    def dense(self, *, student: bool = True, teacher: bool = True) -> Case:
        """The same case with logits spelt out, the student's as a leaf of their own."""
        return replace(
            self,
            student=_spell(self.student, grad=True, there=student),
            teacher=_spell(self.teacher, grad=False, there=teacher),
        )


def _spell(side: Side, *, grad: bool, there: bool) -> Side:
    return Dense(logits_NV=logits(side).detach().clone().requires_grad_(grad)) if there else side


def logits(side: Side) -> Tensor:
    return side.logits_NV if isinstance(side, Dense) else side.dense().logits_NV


def case(
    student_spans: list[int] = STUDENT_SPANS,
    teacher_spans: list[int] = TEACHER_SPANS,
    *,
    student_strings: list[bytes] = STUDENT,
    teacher_strings: list[bytes] = TEACHER,
    dtype: torch.dtype = torch.float64,
    bias: bool = True,
    scale: float = 1.0,
    softcap: float | None = None,
    sharpness: float = 1.0,
    seed: int = 0,
) -> Case:
    draw = torch.Generator().manual_seed(seed)
    n, m, v, w = len(student_spans), len(teacher_spans), len(student_strings), len(teacher_strings)

    def normal(*shape: int) -> Tensor:
        return (torch.randn(*shape, generator=draw, dtype=torch.float64) * sharpness).to(dtype)

    return Case(
        student=Projected(
            hidden_NH=normal(n, 6).requires_grad_(),
            weight_VH=normal(v, 6).requires_grad_(),
            bias_V=normal(v).requires_grad_() if bias else None,
            scale=scale,
            softcap=softcap,
        ),
        teacher=Projected(hidden_NH=normal(m, 5), weight_VH=normal(w, 5), softcap=softcap),
        labels_N=torch.randint(v, (n,), generator=draw),
        teacher_labels_M=torch.randint(w, (m,), generator=draw),
        student_spans=student_spans,
        teacher_spans=teacher_spans,
        student_strings=student_strings,
        teacher_strings=teacher_strings,
    )


def twins(*, sharpness: float = 1.0, seed: int = 0) -> Case:
    """A student that is its own teacher, tokenizer and all."""
    one = case(STUDENT_SPANS, STUDENT_SPANS, teacher_strings=STUDENT, sharpness=sharpness, seed=seed)
    one = one.dense()
    return replace(one, teacher=_spell(one.student, grad=False, there=True), teacher_labels_M=one.labels_N)


def plain(loss: CrossLoss, one: Case, *, count: float = 5.0) -> Tensor:
    """The definition, one span after the other, for autograd to differentiate."""
    q_NV, p_MW = (logits(side) / loss.temperature for side in (one.student, one.teacher))
    total = torch.nn.functional.cross_entropy(logits(one.student), one.labels_N, reduction="sum") * loss.hard_weight
    for span in range(1 + max(one.student_spans, default=-1)):
        ours = [n for n, s in enumerate(one.student_spans) if s == span]
        theirs = [m for m, s in enumerate(one.teacher_spans) if s == span]
        if loss.merges and len(ours) + len(theirs) > 2:
            q = torch.stack([q_NV[n].softmax(-1)[one.labels_N[n]] for n in ours]).prod()
            p = torch.stack([p_MW[m].softmax(-1)[one.teacher_labels_M[m]] for m in theirs]).prod()
            value = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
        else:
            value = PLAIN[type(loss).__name__](loss, q_NV[ours[0]].softmax(-1), p_MW[theirs[0]].softmax(-1), one)
        total = total + (1 - loss.hard_weight) * value
    return total / count


def plain_sorted(q_V: Tensor, p_W: Tensor, top: int | None) -> Tensor:
    size = max(len(q_V), len(p_W))
    q, p = (torch.cat([x.sort(descending=True).values, x.new_zeros(size - len(x))]) for x in (q_V, p_W))
    if top is not None and top < size:
        q, p = (torch.cat([x[:top], x[top:].sum()[None]]) for x in (q, p))
    return (q - p).abs().sum()


def plain_uld(loss: Any, q_V: Tensor, p_W: Tensor, one: Case) -> Tensor:
    return plain_sorted(q_V, p_W, loss.top)


def split(q_V: Tensor, p_W: Tensor, one: Case) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    """Matched probabilities of both sides, in one order, and those of the rest."""
    common = [string for string in one.student_strings if string in one.teacher_strings]
    q, p = ([x[strings.index(s)] for s in common] for x, strings in _sides(q_V, p_W, one))
    rest_q, rest_p = ([x[i] for i, s in enumerate(strings) if s not in common] for x, strings in _sides(q_V, p_W, one))
    return q, p, rest_q, rest_p


def _sides(q_V: Tensor, p_W: Tensor, one: Case) -> list[tuple[Tensor, list[bytes]]]:
    return [(q_V, one.student_strings), (p_W, one.teacher_strings)]


def plain_hybrid(loss: Any, q_V: Tensor, p_W: Tensor, one: Case) -> Tensor:
    q, p, rest_q, rest_p = split(q_V, p_W, one)
    weight = sum(p) if loss.matched_weight is None else loss.matched_weight
    divergence = torch.zeros((), dtype=torch.float64)
    for x, y in zip([*q, sum(rest_q)], [*p, sum(rest_p)], strict=True):
        if not isinstance(x, Tensor) or not isinstance(y, Tensor):
            continue  # no entry is left over on a side that has all
        middle = (x + y) / 2
        divergence = divergence + (x * (x / middle).log() + y * (y / middle).log()) / 2
    unmatched = plain_sorted(torch.stack(rest_q), torch.stack(rest_p), loss.top) if rest_q and rest_p else 0.0
    return weight * divergence + (1 - weight) * unmatched


def plain_span_kl(loss: Any, q_V: Tensor, p_W: Tensor, one: Case) -> Tensor:
    q, p, rest_q, rest_p = split(q_V, p_W, one)
    if not rest_q:
        mass = sum(p)
        return sum(x * (x / mass / y).log() for x, y in zip(p, q, strict=True))
    value = sum(x * (x / y).log() for x, y in zip(p, q, strict=True))
    return value + (sum(rest_p) * (sum(rest_p) / sum(rest_q)).log() if rest_p else 0.0)


def plain_transport(loss: Any, q_V: Tensor, p_W: Tensor, one: Case) -> Tensor:
    """The primal problem with a plan found by scaling, on the strings themselves."""
    tops = [x.topk(min(loss.k, len(x))).indices.tolist() for x in (q_V, p_W)]
    measures = []
    for (x, strings), (_, others), own, theirs in (
        (_sides(q_V, p_W, one)[0], _sides(q_V, p_W, one)[1], *tops),
        (_sides(q_V, p_W, one)[1], _sides(q_V, p_W, one)[0], *tops[::-1]),
    ):
        ids = sorted({*own, *(strings.index(others[i]) for i in theirs if others[i] in strings)})
        measures.append(([*(strings[i] for i in ids), None], torch.cat([x[ids], 1 - x[ids].sum(0, keepdim=True)])))
    (a_strings, a), (b_strings, b) = measures

    def cost(one: bytes | None, other: bytes | None) -> float:
        if one == other:
            return 0.0
        if one is None or other is None or not one or not other:
            return 1.0
        shared = next(
            (i for i, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), min(len(one), len(other))
        )
        return 1 - shared / max(len(one), len(other))

    def transport(x: Tensor, y: Tensor, xs: list[Any], ys: list[Any]) -> Tensor:
        costs = torch.tensor([[cost(i, j) for j in ys] for i in xs], dtype=torch.float64)
        kernel, v = (-costs / loss.epsilon).exp(), torch.ones_like(y)
        for _ in range(40):
            u = 1 / (kernel @ (y * v))
            v = 1 / (kernel.T @ (x * u))
        plan = (x * u)[:, None] * kernel * (y * v)[None, :]
        return (plan * costs).sum() + loss.epsilon * (plan * (u.log()[:, None] + v.log() - costs / loss.epsilon)).sum()

    halves = (transport(a, a, a_strings, a_strings) + transport(b, b, b_strings, b_strings)) / 2
    return transport(a, b, a_strings, b_strings) - halves


PLAIN: dict[str, Callable[[Any, Tensor, Tensor, Case], Tensor]] = {
    "ULD": plain_uld,
    "ULDHybrid": plain_hybrid,
    "SpanKL": plain_span_kl,
    "OptimalTransport": plain_transport,
}


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance, check_dtype=False)


def all_close(actual: list[Tensor], expected: list[Tensor] | tuple[Tensor, ...], tolerance: float = 1e-9) -> None:
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        close(one, other, tolerance)
