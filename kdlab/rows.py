"""Rows: the predictions a student is asked to match, and the two sides of each.

A row is one prediction: a class decision, or one supervised token. Shift, mask and teacher alignment happen here,
once; every loss and every metric sees `Rows` and nothing else.

Shape letters: B batch, T time, N rows of the student, M rows of a teacher with another tokenizer, V vocabulary or
classes, H hidden, K entries kept of a row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

IGNORE = -100
"""The label of a position that is not supervised. It never reaches a `Rows`."""


@dataclass(frozen=True, kw_only=True)
class Dense:
    """One side of the rows as logits `[N, V]`."""

    logits_NV: Tensor

    def __len__(self) -> int:
        return self.logits_NV.shape[0]

    @property
    def vocabulary(self) -> int:
        return self.logits_NV.shape[1]


@dataclass(frozen=True, kw_only=True)
class Projected:
    """One side of the rows before its LM head: `logits = cap(scale * (hidden @ weight.T + bias))`.

    `cap(z) = softcap * tanh(z / softcap)` where `softcap` is given (Gemma 2), else the identity; `scale` is the
    logit multiplier of architectures that have one (Cohere, Granite), else 1.
    """

    hidden_NH: Tensor
    weight_VH: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    def __len__(self) -> int:
        return self.hidden_NH.shape[0]

    @property
    def vocabulary(self) -> int:
        return self.weight_VH.shape[0]

    def dense(self) -> Dense:
        """The same side with its logits spelt out: `[N, V]` in memory. For small N and for tests."""
        logits_NV = self.hidden_NH @ self.weight_VH.T
        if self.bias_V is not None:
            logits_NV = logits_NV + self.bias_V
        logits_NV = logits_NV * self.scale
        if self.softcap is not None:
            logits_NV = self.softcap * torch.tanh(logits_NV / self.softcap)
        return Dense(logits_NV=logits_NV)


@dataclass(frozen=True, kw_only=True)
class TopK:
    """A teacher's K most likely entries of each row, and how much probability the others hold together.

    `logp_NK` are log-probabilities at `temperature`, in any order along K; `rest_N` is the log of the mass of all other
    entries, log(1 - Σ exp logp), -inf where there are none. No id comes twice in a row. `logp_label_N` is the
    log-probability of the row's label at temperature 1, whatever `temperature` is, for metrics (None: not known).
    """

    ids_NK: Tensor
    logp_NK: Tensor
    rest_N: Tensor
    vocabulary: int
    temperature: float = 1.0
    logp_label_N: Tensor | None = None

    def __len__(self) -> int:
        return self.ids_NK.shape[0]


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """An unbiased estimate of a teacher's probabilities: weights >= 0 of a few entries of each row, summing to 1.

    E[weight of v] = p(v) at `temperature`, over the draws; entries that are not named weigh 0, and those that fill up
    K do too (an id may then come twice). `entropy_N` is the entropy of p at `temperature` in nats
    (None: not known): with it the mean of Σ w (-log q) - H(p) is KL(p ‖ q). `logp_label_N` is as in `TopK`.
    """

    ids_NK: Tensor
    weight_NK: Tensor
    vocabulary: int
    temperature: float = 1.0
    entropy_N: Tensor | None = None
    logp_label_N: Tensor | None = None

    def __len__(self) -> int:
        return self.ids_NK.shape[0]


Side = Dense | Projected
Signal = Dense | Projected | TopK | Sampled
"""What a teacher answers with."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """N predictions: the student's side, the teacher's (None when only labels teach) and the labels `[N]`."""

    student: Side
    teacher: Signal | None
    labels_N: Tensor
    teacher_rest: Side | None = None
    student_rest: Side | None = None
    """What `cut` took off either side: entries that the other does not have. Metrics say how much mass they hold."""
    weight_N: Tensor | None = None
    """What the labels' term of each row counts (None: 1), such as the weight of its class."""

    def __post_init__(self) -> None:
        assert self.labels_N.ndim == 1
        assert len(self.student) == len(self.labels_N), (len(self.student), len(self.labels_N))
        if self.teacher is not None:
            assert len(self.teacher) == len(self.labels_N), (len(self.teacher), len(self.labels_N))
            if self.teacher.vocabulary != self.student.vocabulary:
                raise ValueError(
                    f"teacher and student predict over different vocabularies "
                    f"({self.teacher.vocabulary} and {self.student.vocabulary} entries)"
                )

    def __len__(self) -> int:
        return len(self.labels_N)


@dataclass(frozen=True, kw_only=True)
class PairRows:
    """Predictions of two models with tokenizers of their own, over the same text: N of the student, M of the teacher.

    A span is a stretch of bytes that begins and ends at a token of either. `student_span_N` and `teacher_span_M` number
    the span that each row's label lies in, from 0 to spans - 1 and rising; -1 where a label is in none (a template's
    own tokens, the first token of a text, a character cut apart by the end of the example). Every span has rows on
    both sides, and before its first row both models have read the same bytes.
    """

    student: Side
    teacher: Side
    labels_N: Tensor
    teacher_labels_M: Tensor
    student_span_N: Tensor
    teacher_span_M: Tensor
    spans: int

    def __post_init__(self) -> None:
        assert len(self.student) == len(self.labels_N) == len(self.student_span_N)
        assert len(self.teacher) == len(self.teacher_labels_M) == len(self.teacher_span_M)

    def __len__(self) -> int:
        return len(self.labels_N)


def cut(side: Signal, entries: int) -> tuple[Side, Side | None]:
    """The first `entries` of a side's vocabulary, and the rest of it (None where there is none). Views, with graph.

    Raises ValueError for a signal of some entries only: what the others hold cannot be told apart.
    """
    assert 0 < entries <= side.vocabulary
    side = whole(side, "loss.vocab=shared")
    if entries == side.vocabulary:
        return side, None
    return _part(side, slice(0, entries)), _part(side, slice(entries, None))


def whole(signal: Signal, option: str) -> Side:
    """The signal, where it tells of every entry. Raises ValueError, naming the `option` that needs that, where it tells
    of some only."""
    if isinstance(signal, Dense | Projected):
        return signal
    raise ValueError(
        f"{option}: needs the teacher's whole distribution, and this teacher tells of some tokens only; use a cache of "
        "codec=hidden or codec=dense, or a live teacher"
    )


def _part(side: Side, entries: slice) -> Side:
    if isinstance(side, Dense):
        return Dense(logits_NV=side.logits_NV[:, entries])
    bias_V = None if side.bias_V is None else side.bias_V[entries]
    return replace(side, weight_VH=side.weight_VH[entries], bias_V=bias_V)


def asked(labels: Tensor) -> Tensor:
    """Which labels are supervised: all but `IGNORE`, of numbers (a regression's) all but nan."""
    return ~labels.isnan() if labels.is_floating_point() else labels != IGNORE


def supervised(labels_BT: Tensor, *, shift: bool) -> tuple[Tensor, Tensor]:
    """Where the supervised predictions are, and what they should be.

    `shift=True` (causal): the hidden state at position t predicts the label at t + 1. `shift=False` (seq2seq decoders,
    classification): position t predicts label t.

    Returns `positions_N`, indices into the flattened `[B * T]` hidden states, and `labels_N`, never `IGNORE` (nor nan).
    """
    targets_BT = torch.full_like(labels_BT, IGNORE)
    if shift:
        targets_BT[:, :-1] = labels_BT[:, 1:]
    else:
        targets_BT.copy_(labels_BT)
    flat = targets_BT.reshape(-1)
    positions_N = asked(flat).nonzero().squeeze(1)
    return positions_N, flat[positions_N]
