"""What each codec promises of its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from codec_cases import (
    HIDDEN,
    encoded,
    labels_of,
    logp_of,
    made,
    probabilities,
    round_trip,
    teacher,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.rows import Dense, Projected, TopK
from kdlab.teachers.codecs import CODECS


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 9),
    vocabulary=st.sampled_from([1, 2, 5, 6, 300, 70_000]),
    k=st.sampled_from([1, 4, 200]),
    step=st.sampled_from([0.0, 1 / 64, 1 / 32, 0.5]),
    temperature=st.sampled_from([1.0, 2.5]),
    spread=st.sampled_from([0.0, 1.0, 20.0]),
)
def test_topk_keeps_the_largest_within_its_step(rows, vocabulary, k, step, temperature, spread):
    codec, signal = made("topk", k=k, step=step, temperature=temperature), teacher(rows, vocabulary, spread=spread)
    found = round_trip(codec, signal, [rows])
    kept, true_NV = min(k, vocabulary), logp_of(signal, temperature)
    assert found.ids_NK.shape == (rows, kept)
    assert found.temperature == temperature
    assert all(len(set(row)) == kept for row in found.ids_NK.tolist())
    smallest_N = true_NV.gather(1, found.ids_NK).amin(1)
    torch.testing.assert_close(smallest_N, true_NV.topk(kept).values[:, -1], rtol=0, atol=1e-4)
    tolerance = step + 2e-5 + 1e-6 * float(true_NV.abs().max())
    torch.testing.assert_close(found.logp_NK.double(), true_NV.gather(1, found.ids_NK), rtol=0, atol=tolerance)
    rest_N = 1 - true_NV.exp().gather(1, found.ids_NK).sum(1)
    torch.testing.assert_close(found.rest_N.double().exp(), rest_N, rtol=1e-4, atol=1e-6)
    whole_N = found.logp_NK.double().exp().sum(1) + found.rest_N.double().exp()
    torch.testing.assert_close(whole_N, torch.ones_like(whole_N), rtol=0, atol=1e-5)  # float32 sums
    label_N = logp_of(signal).gather(1, labels_of(signal)[:, None])[:, 0]
    torch.testing.assert_close(found.logp_label_N.double(), label_N, rtol=1e-3, atol=1e-4)
    if kept == vocabulary:
        assert bool((found.rest_N == -math.inf).all())


def test_topk_of_all_entries_without_steps_is_the_teacher():
    signal = teacher(7, 30)
    found = round_trip(made("topk", k=99, step=0.0), signal, [7])
    torch.testing.assert_close(found.logp_NK, logp_of(signal).float().gather(1, found.ids_NK), rtol=1e-6, atol=1e-6)


def test_three_tokens_by_hand():
    logits_NV = torch.tensor([[0.5, 0.25, 0.25]]).log()
    found = round_trip(made("topk", k=1), Dense(logits_NV=logits_NV), [1])
    assert found.ids_NK.tolist() == [[0]]
    assert found.logp_NK.item() == pytest.approx(math.log(0.5))
    assert found.rest_N.item() == pytest.approx(math.log(0.5))


def told(k, **changes):
    full = logp_of(teacher(6)).float()
    logp_NK, ids_NK = full.topk(k)
    rest_N = torch.log1p(-logp_NK.exp().sum(1))
    return TopK(**({"ids_NK": ids_NK, "logp_NK": logp_NK, "rest_N": rest_N, "vocabulary": 40} | changes))


def by_id(signal: TopK) -> torch.Tensor:
    """Log-probabilities of all entries `[N, V]`, -inf where nothing is told."""
    nothing_NV = torch.full((len(signal), signal.vocabulary), -math.inf)
    return nothing_NV.scatter(1, signal.ids_NK, signal.logp_NK)


def test_what_a_server_tells_is_kept_and_cut_to_k_with_its_mass():
    found = round_trip(made("topk", k=5, step=0.0), told(8), [2, 4])
    assert found.logp_label_N is None
    torch.testing.assert_close(by_id(found), by_id(told(5)))
    torch.testing.assert_close(found.rest_N, told(5).rest_N)
    labelled = told(5, logp_label_N=torch.linspace(-9, -1, 6))
    torch.testing.assert_close(
        round_trip(made("topk", k=5), labelled, [6]).logp_label_N, labelled.logp_label_N, rtol=1e-3, atol=0
    )


def test_a_server_that_tells_too_little_is_refused():
    with pytest.raises(ValueError, match=r"codec\.k=5.*3 tokens.*codec\.k=3.*teacher\.server\.k"):
        encoded(made("topk"), told(3), [6])
    with pytest.raises(ValueError, match=r"codec\.temperature=2.*codec\.temperature=1"):
        encoded(made("topk", temperature=2.0), told(5), [6])
    for name in ("sampled", "head_and_samples", "dense", "hidden"):
        with pytest.raises(ValueError, match=f"codec={name}.*codec=topk"):
            encoded(made(name), told(5), [6])


@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from(["sampled", "head_and_samples"]),
    rows=st.integers(1, 6),
    vocabulary=st.sampled_from([1, 2, 3, 4, 300, 70_000]),
    draws=st.sampled_from([1, 16, 300]),
    temperature=st.sampled_from([1.0, 0.5]),
)
def test_draws_weigh_1_and_know_the_entropy(name, rows, vocabulary, draws, temperature):
    signal = teacher(rows, vocabulary)
    found = round_trip(made(name, draws=draws, temperature=temperature), signal, [rows])
    true_NV = logp_of(signal, temperature)
    torch.testing.assert_close(found.weight_NK.sum(1), torch.ones(rows), rtol=0, atol=3e-6)
    assert bool((found.weight_NK >= 0).all())
    torch.testing.assert_close(found.entropy_N.double(), -(true_NV.exp() * true_NV).sum(1), rtol=1e-3, atol=1e-3)
    # an entry is drawn floor(m p) or ceil(m p) times
    if name == "sampled":
        assert float((probabilities(found) - true_NV.exp()).abs().max()) < 1 / draws + 1e-6


@pytest.mark.parametrize("options", [{"k": 2, "draws": 3}, {"k": 1, "draws": 1}, {"draws": 4}])
def test_draws_are_right_on_average_and_err_as_one_over_the_root_of_redraws(options):
    codec = CODECS["head_and_samples" if "k" in options else "sampled"](**options)
    signal, redraws = teacher(2, vocabulary=12), 4000
    drawn = []
    for row in range(2):
        same = Projected(hidden_NH=signal.hidden_NH[[row] * redraws], weight_VH=signal.weight_VH)
        drawn.append(probabilities(round_trip(codec, same, [redraws // 4] * 4)))
    drawn_NRV = torch.stack(drawn)
    true_NV = logp_of(signal).exp()
    spread_NV = drawn_NRV.std(1)
    # five standard errors, and what rounding the head by chance can leave
    assert bool(((drawn_NRV.mean(1) - true_NV).abs() <= 5 * spread_NV / redraws**0.5 + 5e-4).all())
    means_NMV = drawn_NRV.unflatten(1, (-1, 16)).mean(2)
    of_one, of_sixteen = (float((x - true_NV[:, None]).square().mean().sqrt()) for x in (drawn_NRV, means_NMV))
    assert of_one / of_sixteen == pytest.approx(4, rel=0.15)


@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(1, 40),
    error=st.sampled_from([0.001, 0.03, 0.3]),
    scale=st.sampled_from([1.0, 0.25]),
    size=st.sampled_from([1.0, 1e-3, 300.0]),
)
def test_hidden_states_move_the_logits_by_no_more_than_they_may(rows, error, scale, size):
    signal = teacher(rows, vocabulary=400)
    signal = Projected(hidden_NH=signal.hidden_NH * size, weight_VH=signal.weight_VH, scale=scale)
    codec = made("hidden", error=error)
    payloads = encoded(codec, signal, [rows])
    head = Projected(hidden_NH=signal.hidden_NH[:0], weight_VH=signal.weight_VH, scale=scale)
    found = codec.decode(payloads, lengths=[rows], vocabulary=400, head=head)
    assert found.scale == scale
    moved_NV = (found.hidden_NH.double() - signal.hidden_NH.double()) @ signal.weight_VH.double().T * scale
    moved_NV = moved_NV - moved_NV.mean(1, keepdim=True)
    # sqrt(12) x: rounding errors at their largest in place of spread evenly
    assert float(moved_NV.square().mean().sqrt()) < error * math.sqrt(12) / 2 * 1.1 * math.sqrt(HIDDEN / rows + 1)
    if rows >= 20:
        assert float(moved_NV.square().mean().sqrt()) < 1.25 * error


def test_hidden_states_come_back_in_the_heads_type():
    signal = teacher(5)
    half = Projected(hidden_NH=signal.hidden_NH.bfloat16(), weight_VH=signal.weight_VH.bfloat16())
    assert round_trip(made("hidden"), half, [5]).hidden_NH.dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"codec=hidden.*hidden states"):
        encoded(made("hidden"), Dense(logits_NV=torch.zeros(5, 40)), [5])


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 5), classes=st.sampled_from([1, 2, 7, 300]), spread=st.sampled_from([0.1, 3.0, 30.0]))
def test_dense_keeps_every_entry_within_its_bound(rows, classes, spread):
    signal = teacher(rows, classes, spread=spread)
    true_NV = logp_of(signal)
    found_NV = round_trip(made("dense"), signal, [rows]).logits_NV.double().log_softmax(1)
    below_NV = true_NV.amax(1, keepdim=True) - true_NV
    error_NV = (found_NV - true_NV).abs()
    # the row's common level moves too, by the mean error
    assert bool((error_NV <= below_NV / 2048 + (below_NV / 2048 * true_NV.exp()).sum(1, keepdim=True) + 1e-5).all())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("topk", {"k": 0}, "codec.k=0"),
        ("topk", {"step": 2.0}, "codec.step=2.0"),
        ("topk", {"temperature": 0.0}, "codec.temperature=0.0"),
        ("sampled", {"draws": 0}, "codec.draws=0"),
        ("head_and_samples", {"k": 0}, "codec.k=0"),
        ("hidden", {"error": 0.0}, "codec.error=0.0"),
        ("hidden", {"temperature": 2.0}, "codec.temperature=2.0"),
    ],
)
def test_options_are_checked(name, options, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        CODECS[name](**options)


def test_more_tokens_than_16_bits_number():
    """Entries whose table wraps around: ids of more than 2^16, in any order of frequency."""
    draw = np.random.default_rng(0)
    logits_NV = torch.from_numpy(draw.normal(size=(30, 140_000)).astype(np.float32))
    logits_NV[:, [139_999, 3, 70_000, 69_999]] = 20.0
    signal = Dense(logits_NV=logits_NV)
    found = round_trip(made("topk", k=60, step=0.0), signal, [10, 20])
    values_NK, _ = logp_of(signal).float().topk(60)
    torch.testing.assert_close(found.logp_NK.sort(1, descending=True).values, values_NK, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logp_of(signal).float().gather(1, found.ids_NK), found.logp_NK, rtol=1e-5, atol=1e-5)
