"""Tiny signals, encoded and decoded, for the tests of codecs."""

from __future__ import annotations

import pytest
import torch

from kdlab.rows import Dense, Projected, Sampled, TopK
from kdlab.teachers.codecs import CODECS

SMALL = {"topk": {"k": 5}, "head_and_samples": {"k": 3, "draws": 7}, "sampled": {"draws": 9}}
HIDDEN = 12
every_codec = pytest.mark.parametrize("name", sorted(CODECS))


def made(name, **options):
    return CODECS[name](**(SMALL.get(name, {}) | options))


def teacher(rows, vocabulary=40, seed=0, spread=2.0):
    draw = torch.Generator().manual_seed(seed)
    return Projected(
        hidden_NH=torch.randn(rows, HIDDEN, generator=draw),
        weight_VH=torch.randn(vocabulary, HIDDEN, generator=draw) * spread / HIDDEN**0.5,
    )


def labels_of(signal, seed=0):
    return torch.randint(signal.vocabulary, (len(signal),), generator=torch.Generator().manual_seed(seed))


def encoded(codec, signal, lengths, seeds=None):
    labels_N = labels_of(signal)
    return codec.encode(signal, labels_N, lengths=lengths, seeds=seeds or list(range(len(lengths))))


def decoded(codec, signal, payloads, lengths):
    head = None
    if isinstance(signal, Projected):
        head = Projected(hidden_NH=signal.hidden_NH[:0], weight_VH=signal.weight_VH)
    return codec.decode(payloads, lengths=lengths, vocabulary=signal.vocabulary, head=head)


def round_trip(codec, signal, lengths, seeds=None):
    return decoded(codec, signal, encoded(codec, signal, lengths, seeds), lengths)


def probabilities(signal):
    """`[N, V]` as the signal tells them; nothing for what top-k leaves over."""
    if isinstance(signal, TopK | Sampled):
        told_NV = torch.zeros(len(signal), signal.vocabulary, dtype=torch.float64)
        values_NK = signal.logp_NK.exp() if isinstance(signal, TopK) else signal.weight_NK
        return told_NV.scatter_add_(1, signal.ids_NK, values_NK.double())
    dense = signal if isinstance(signal, Dense) else signal.dense()
    return dense.logits_NV.double().softmax(1)


def logp_of(signal, temperature=1.0):
    dense = signal if isinstance(signal, Dense) else signal.dense()
    return (dense.logits_NV.double() / temperature).log_softmax(1)
