"""What every codec keeps to, by being listed in CODECS."""

from __future__ import annotations

import math

import pytest
import torch
from codec_cases import (
    HIDDEN,
    decoded,
    encoded,
    every_codec,
    labels_of,
    made,
    probabilities,
    round_trip,
    teacher,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.rows import Dense, Projected, Sampled, TopK


@every_codec
def test_entries_read_together_are_the_entries_read_alone(name):
    codec, signal, lengths = made(name), teacher(9), [4, 0, 1, 4]
    payloads = encoded(codec, signal, lengths)
    together = probabilities(decoded(codec, signal, payloads, lengths))
    alone = [
        probabilities(decoded(codec, signal, [payload], [n])) for payload, n in zip(payloads, lengths, strict=True)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-6, atol=1e-9)
    memory = [memoryview(payload) for payload in payloads]
    torch.testing.assert_close(probabilities(decoded(codec, signal, memory, lengths)), together, rtol=0, atol=0)


@every_codec
def test_the_bytes_of_an_entry_depend_on_it_and_its_seed_alone(name):
    codec, signal = made(name), teacher(9)
    labels_N = labels_of(signal)
    payloads = codec.encode(signal, labels_N, lengths=[4, 5], seeds=[1, 2])
    assert payloads == codec.encode(signal, labels_N, lengths=[4, 5], seeds=[1, 2])
    last = Projected(hidden_NH=signal.hidden_NH[4:], weight_VH=signal.weight_VH)
    assert codec.encode(last, labels_N[4:], lengths=[5], seeds=[2]) == payloads[1:]
    others = codec.encode(signal, labels_N, lengths=[4, 5], seeds=[7, 8])
    assert (others != payloads) == (name in ("sampled", "head_and_samples"))


@every_codec
def test_no_entries_and_no_rows(name):
    codec, signal = made(name), teacher(0)
    assert encoded(codec, signal, []) == []
    for lengths in ([], [0], [0, 0]):
        assert len(round_trip(codec, signal, lengths)) == 0


@every_codec
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_bytes_that_no_codec_wrote_are_refused(name, data):
    codec, signal = made(name), teacher(3)
    (payload,) = encoded(codec, signal, [3])
    broken = data.draw(
        st.one_of(
            st.binary(max_size=80),
            st.integers(0, len(payload) - 1).map(lambda n: payload[:n]),
            st.binary(min_size=1, max_size=9).map(lambda more: payload + more),
        )
    )
    with pytest.raises(ValueError, match="did not write"):
        decoded(codec, signal, [broken], [3])


@every_codec
@settings(max_examples=15, deadline=None)
@given(place=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_a_changed_byte_is_refused_or_gives_rows_of_the_same_shape(name, place, flip):
    codec, signal = made(name), teacher(3)
    payload = bytearray(encoded(codec, signal, [3])[0])
    payload[place % len(payload)] ^= flip
    try:
        found = decoded(codec, signal, [bytes(payload)], [3])
    except ValueError:
        return
    assert len(found) == 3
    assert found.vocabulary == signal.vocabulary
    if isinstance(found, TopK | Sampled):
        assert 0 <= int(found.ids_NK.min()) <= int(found.ids_NK.max()) < signal.vocabulary


@every_codec
def test_other_rows_or_another_vocabulary_are_refused(name):
    codec, signal = made(name), teacher(3)
    payloads = encoded(codec, signal, [3])
    with pytest.raises(ValueError, match="did not write"):
        decoded(codec, signal, payloads, [4])


@pytest.mark.parametrize("name", ["topk", "sampled", "head_and_samples", "dense"])
@settings(max_examples=20, deadline=None)
@given(
    logits=st.lists(
        st.lists(
            st.one_of(st.floats(-30, 30, width=32), st.sampled_from([-math.inf, -1e9, 0.0, 0.0, 3e4])),
            min_size=4,
            max_size=4,
        ).filter(lambda row: max(row) > -math.inf),
        min_size=1,
        max_size=6,
    )
)
def test_extreme_logits_ties_and_ruled_out_entries(name, logits):
    signal = Dense(logits_NV=torch.tensor(logits, dtype=torch.float32))
    found = round_trip(made(name), signal, [len(logits)])
    told_NV, true_NV = probabilities(found), probabilities(signal)
    assert bool(torch.isfinite(told_NV).all())
    torch.testing.assert_close(told_NV.sum(1), torch.ones(len(logits), dtype=torch.float64), rtol=0, atol=2e-6)
    assert float(told_NV[true_NV == 0].sum()) < 1e-12
    if name in ("topk", "dense"):  # all four entries are kept
        torch.testing.assert_close(told_NV, true_NV, rtol=0.04, atol=1e-6)


@every_codec
def test_what_is_no_number_is_refused(name):
    signal = teacher(3)
    signal.hidden_NH[1, 2] = torch.nan
    with pytest.raises(ValueError, match=r"teacher\.dtype=float32"):
        encoded(made(name), signal, [3])


@every_codec
def test_a_codec_says_its_bound_and_about_its_size(name):
    codec, signal = made(name), teacher(600, vocabulary=300)
    assert codec.bound
    measured = sum(map(len, encoded(codec, signal, [300, 300]))) / 600
    assert measured / 2 < codec.bytes_per_row(300, HIDDEN) < measured * 2 + 8
