"""An entry of draws, with or without an exact head, to bytes and back.

Fields: the head's table, gaps and levels; the mass behind it; how many different tokens each row drew, their table,
gaps and counts less 1; entropy; the label's log-probability. Without a head the first four are empty.

Shape letters: N rows, n rows of one entry, k entries of the head, K entries of a row, V vocabulary, P places (different
entries drawn, one row after the other).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdlab.rows import Sampled, Side
from kdlab.teachers.codecs.base import Payload
from kdlab.teachers.codecs.draws import counted, generator, systematic
from kdlab.teachers.codecs.levels import levels, restored
from kdlab.teachers.codecs.numbering import ids_of, numbered
from kdlab.teachers.codecs.packing import FOREIGN, bits, floats, joined, pack, unpack
from kdlab.teachers.codecs.reading import halves, log_probabilities
from kdlab.teachers.codecs.topk import rest_of

STEP = 1 / 32
"""Of the head's log-probabilities, in nats."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What is kept of a row: the `head` most likely entries and `draws` draws from the others."""

    head: int
    draws: int
    temperature: float

    def packed(self, side: Side, span: tuple[int, int], labels_N: Tensor, seed: int) -> bytes:
        """The bytes of the rows in `span`."""
        rows, head = span[1] - span[0], min(self.head, side.vocabulary)
        chance = generator(seed)
        start_n, rounding_nk = chance.random(rows), chance.random((rows, head))
        ids_nk, logp_nk = np.zeros((rows, head), np.int64), np.zeros((rows, head), np.float32)
        rest_n, entropy_n, label_n = torch.zeros(rows), torch.zeros(rows), torch.zeros(rows)
        drawn: list[NDArray[np.int64]] = []
        row = 0
        for logp_nV, label in log_probabilities(side, span, labels_N, self.temperature):
            part = slice(row, row := row + len(logp_nV))
            label_n[part], entropy_n[part] = label, entropy(logp_nV)
            if head:
                values, ids = logp_nV.topk(head, dim=1)
                ids_nk[part], logp_nk[part] = ids.cpu().numpy(), values.cpu().numpy()
                rest_n[part] = rest_of(logp_nV, ids, values)
                logp_nV.scatter_(1, ids, -torch.inf)
            drawn.append(systematic(logp_nV.exp_(), self.draws, start_n[part]))
        ids_P, times_P, counts_n = counted(np.concatenate([np.zeros((0, self.draws), np.int64), *drawn]))
        fields: list[NDArray[Any]] = [np.zeros(0, np.uint8)] * 4
        if head:
            rest_n[torch.from_numpy(counts_n == 0)] = -torch.inf
            fields, order = numbered(ids_nk.reshape(-1), np.full(rows, head), side.vocabulary)
            fields += [levels(logp_nk, STEP, rounding_nk).reshape(-1)[order], bits(rest_n.numpy())]
        tail, order = numbered(ids_P, counts_n, side.vocabulary)
        fields += [counts_n, *tail, times_P[order] - 1, bits(halves(entropy_n)), bits(halves(label_n))]
        return pack(fields)

    def decoded(self, payloads: Sequence[Payload], lengths: Sequence[int], vocabulary: int) -> Sampled:
        """The rows of these entries; those with fewer tokens than the longest are filled up with weight 0."""
        head, N = min(self.head, vocabulary), sum(lengths)
        entries = [self._unpacked(payload, n, head, vocabulary) for payload, n in zip(payloads, lengths, strict=True)]
        head_ids, level, rest, counts, tail_ids, times, entropy_N, label_N = (
            joined([entry[field] for entry in entries]) for field in range(8)
        )
        counts_N = counts.astype(np.int64)
        K = head + int(counts_N.max(initial=0))
        ids_NK, weight_NK = np.zeros((N, K), np.int64), np.zeros((N, K), np.float32)
        mass_N = np.ones(N, np.float32)
        if head:
            rest_N = floats(rest, 4)
            mass_N = np.exp(rest_N)
            ids_NK[:, :head] = head_ids.reshape(-1, head)
            weight_NK[:, :head] = np.exp(restored(level.reshape(-1, head), rest_N, STEP))
        row_P = np.repeat(np.arange(N), counts_N)
        column_P = np.arange(len(row_P)) - np.repeat(np.cumsum(counts_N) - counts_N, counts_N) + head
        ids_NK[row_P, column_P] = tail_ids
        weight_NK[row_P, column_P] = (times.astype(np.float32) + 1) * (mass_N / self.draws)[row_P]
        return Sampled(
            ids_NK=torch.from_numpy(ids_NK),
            weight_NK=torch.from_numpy(weight_NK),
            vocabulary=vocabulary,
            temperature=self.temperature,
            entropy_N=torch.from_numpy(floats(entropy_N, 2).astype(np.float32)),
            logp_label_N=torch.from_numpy(floats(label_N, 2).astype(np.float32)),
        )

    def _unpacked(self, payload: Payload, rows: int, head: int, vocabulary: int) -> tuple[Any, ...]:
        kept, most = rows * head, rows * min(self.draws, vocabulary)
        held = rows if head else 0
        limits = (kept, kept, kept, held, rows, most, most, most, rows, rows)
        table, gaps, level, rest, counts, tail, steps, times, entropy_n, label_n = unpack(payload, limits)
        exact = (len(gaps), len(level), len(rest), len(counts), len(entropy_n), len(label_n))
        if exact != (kept, kept, held, rows, rows, rows) or not len(steps) == len(times) == int(counts.sum()):
            raise ValueError(f"{FOREIGN} (other rows)")
        return (
            ids_of(table, gaps, head, vocabulary),
            level,
            rest,
            counts,
            ids_of(tail, steps, counts.astype(np.int64), vocabulary),
            times,
            entropy_n,
            label_n,
        )


def entropy(logp_nV: Tensor) -> Tensor:
    """-Σ p log p of each row, in nats."""
    found: Tensor = torch.special.entr(logp_nV.exp()).sum(1)
    return found
