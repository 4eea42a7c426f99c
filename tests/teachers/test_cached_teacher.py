"""A cached teacher finds what was said by what is read: in any order, padded, packed, on the batch's device.

Shape letters: B batch, T time, N rows, V vocabulary, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kdlab.batch import Batch
from kdlab.data.collate import filler, packed, padded
from kdlab.data.store import Example, Layout
from kdlab.rows import Dense, Projected, Sampled, Signal, TopK, supervised
from kdlab.teachers.cache.keys import key_of
from kdlab.teachers.cached import CachedTeacher, moved

V = 11
LAYOUT = Layout(pad_id=0, longest=64)
HEAD = Projected(hidden_NH=torch.zeros(0, 4), weight_VH=torch.randn(V, 4, dtype=torch.bfloat16))


class Shelf:
    """A cache in memory: `rows[key]` are the logits of an entry."""

    def __init__(self, rows: dict[bytes, Tensor], kind: str = "dense") -> None:
        self.rows, self.kind, self.vocabulary, self.identity, self.disk_bytes = rows, kind, V, "abc", 123
        self.codec = SimpleNamespace(name=kind)
        self.manifest = SimpleNamespace(teacher={"description": "folder x"})

    def tokenizer(self) -> str:
        return "tokenizer"

    def __contains__(self, key: bytes) -> bool:
        return key in self.rows

    def signal(self, keys: Sequence[bytes]) -> Signal:
        found_NV = torch.cat([self.rows[key] for key in keys])
        if self.kind == "hidden":
            return replace(HEAD, hidden_NH=found_NV[:, :4].float())
        if self.kind == "topk":
            logp_NK, ids_NK = found_NV.log_softmax(1).topk(3)
            rest_N = torch.log1p(-logp_NK.exp().sum(1))
            return TopK(ids_NK=ids_NK, logp_NK=logp_NK, rest_N=rest_N, vocabulary=V, logp_label_N=rest_N)
        if self.kind == "sampled":
            return Sampled(ids_NK=found_NV.topk(2).indices, weight_NK=torch.full((len(found_NV), 2), 0.5), vocabulary=V)
        return Dense(logits_NV=found_NV)


def example(ids: Sequence[int], supervised_from: int, row: int = 0) -> Example:
    T = len(ids)
    return Example(
        input_ids=np.array(ids, np.int32),
        supervised=(np.arange(T) >= supervised_from) & (np.arange(T) > 0),
        row=row,
    )


def said(one: Example) -> Tensor:
    """What the teacher says of an example `[N, V]`: numbers that no other example has."""
    generator = torch.Generator().manual_seed(int.from_bytes(key_of(one)[:6], "little"))
    return torch.randn(int(one.supervised[1:].sum()), V, generator=generator)


def shelf(examples: Sequence[Example], kind: str = "dense") -> CachedTeacher:
    rows = {key_of(one): said(one) for one in examples if one.supervised[1:].any()}
    cache: Any = Shelf(rows, kind)
    return CachedTeacher(cache, name="teacher.path=here")


def ask(teacher: CachedTeacher, batch: Batch) -> Signal:
    positions_N, labels_N = supervised(batch.labels_BT, shift=batch.shift)
    signal = teacher.signal(batch, positions_N)
    assert len(signal) == len(labels_N)
    return signal


texts = st.lists(st.lists(st.integers(1, V - 1), min_size=1, max_size=9), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(0, 9), st.randoms(use_true_random=False), st.booleans())
def test_rows_come_in_the_order_of_the_batch(texts: Any, begin: int, random: Any, pack: bool) -> None:
    examples = [example(ids, begin, row) for row, ids in enumerate(texts)]
    teacher = shelf(examples)
    random.shuffle(examples)
    batch = packed([examples], LAYOUT) if pack else padded(examples, LAYOUT)
    signal = ask(teacher, batch)
    assert isinstance(signal, Dense)
    wanted = [said(one) for one in examples if one.supervised[1:].any()]
    torch.testing.assert_close(signal.logits_NV, torch.cat(wanted) if wanted else torch.zeros(0, V))


@pytest.mark.parametrize("pack", [False, True])
def test_a_filler_asks_nothing(pack: bool) -> None:
    assert len(ask(shelf([]), filler(LAYOUT, pack=pack))) == 0


def test_an_encoder_decoder_is_asked_by_source_and_target() -> None:
    target, source = np.array([4, 5, 6], np.int32), np.array([1, 2], np.int32)
    both = [
        Example(input_ids=target, supervised=np.ones(3, bool), row=i, source_ids=np.array(ids, np.int32))
        for i, ids in enumerate((source, [2, 1, 3]))
    ]
    rows = {key_of(one): torch.full((3, V), float(i)) for i, one in enumerate(both)}
    cache: Any = Shelf(rows)
    layout = replace(LAYOUT, longest_target=8, seq2seq=True)
    signal = ask(CachedTeacher(cache), padded(both[::-1], layout))
    assert isinstance(signal, Dense)
    assert signal.logits_NV[:, 0].tolist() == [1.0] * 3 + [0.0] * 3


@pytest.mark.parametrize("kind", ["dense", "topk", "sampled", "hidden"])
def test_every_signal_moves_as_a_whole(kind: str) -> None:
    one = example([1, 2, 3], 1)
    signal = ask(shelf([one], kind), padded([one], LAYOUT))
    on_meta = moved(signal, torch.device("meta"))
    tensors = [value for value in vars(on_meta).values() if isinstance(value, Tensor)]
    assert tensors
    assert all(tensor.device.type == "meta" for tensor in tensors)
    assert len(on_meta) == len(signal) == 2


def test_the_head_is_moved_and_widened_once() -> None:
    one = example([1, 2, 3], 1)
    teacher, batch = shelf([one], "hidden"), padded([one], LAYOUT)
    first, second = ask(teacher, batch), ask(teacher, batch)
    assert isinstance(first, Projected)
    assert isinstance(second, Projected)
    assert first.weight_VH is second.weight_VH
    assert first.weight_VH.dtype == first.hidden_NH.dtype == torch.float32
    torch.testing.assert_close(first.weight_VH, HEAD.weight_VH.float())
    torch.testing.assert_close(first.hidden_NH, said(one)[:, :4])


def test_what_is_not_there_is_named() -> None:
    examples = [example([1, 2, row + 3], 1, row) for row in range(5)]
    teacher = shelf(examples[:3])
    with pytest.raises(ValueError, match=r"teacher.path=here: has no signal for 2 of the 4 .* \(row 3, 4 of the dat"):
        ask(teacher, padded(examples[1:], LAYOUT))
    with pytest.raises(ValueError, match=r"has no signal for 1 of the 1 .*\(row 4 of the dataset\)"):
        ask(teacher, packed([[examples[4]]], LAYOUT))


def test_fewer_rows_than_were_asked_are_damage() -> None:
    one = example([1, 2, 3], 1)
    cache: Any = Shelf({key_of(one): torch.zeros(1, V)})
    with pytest.raises(ValueError, match="holds 1 rows of examples that have 2; look for damage"):
        ask(CachedTeacher(cache), padded([one], LAYOUT))


def test_what_it_says_of_itself() -> None:
    teacher = shelf([], "topk")
    assert teacher.description == "folder x, kept by codec=topk"
    assert (teacher.model, teacher.split, teacher.tokenizer) == (None, None, "tokenizer")
    assert (teacher.identity, teacher.disk_bytes, teacher.vocabulary) == ("abc", 123, V)
