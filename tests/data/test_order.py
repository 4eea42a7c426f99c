from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlab.data.order import epoch_order, micro_batches, pack_bins

LENGTHS = st.lists(st.integers(1, 64), max_size=200).map(lambda lengths: np.array(lengths, np.int64))


def order(lengths, **changes):
    options = {"seed": 0, "epoch": 0, "per_step": 4, "group_by_length": False} | changes
    return epoch_order(np.array(lengths, np.int64), **options)


@given(LENGTHS, st.booleans(), st.integers(1, 9))
def test_an_epoch_has_every_unit_once(lengths, grouped, per_step):
    assert sorted(order(lengths, group_by_length=grouped, per_step=per_step)) == list(range(len(lengths)))


def test_order_is_a_function_of_seed_and_epoch():
    lengths = np.arange(100) % 17
    assert (order(lengths) == order(lengths)).all()
    assert (order(lengths) != order(lengths, epoch=1)).any()
    assert (order(lengths) != order(lengths, seed=1)).any()


def test_grouping_spares_most_of_the_padding_and_still_shuffles():
    lengths = np.random.default_rng(0).integers(1, 512, 1600)

    def padding(units):
        steps = lengths[units].reshape(-1, 8)
        return int((steps.max(1, keepdims=True) - steps).sum())

    grouped = order(lengths, per_step=8, group_by_length=True)
    assert padding(grouped) < 0.1 * padding(order(lengths, per_step=8))
    means = lengths[grouped].reshape(-1, 8).mean(1)
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3  # long steps are not all at one end
    assert (grouped != order(lengths, per_step=8, group_by_length=True, epoch=1)).any()


@given(LENGTHS.filter(len), st.integers(1, 5), st.integers(1, 4))
def test_ranks_partition_a_step_into_equally_many_micro_batches(lengths, batch_size, world):
    units = np.arange(len(lengths))
    ranks = [micro_batches(units, lengths, batch_size=batch_size, rank=r, world=world) for r in range(world)]
    assert len({len(parts) for parts in ranks}) == 1
    assert sorted(i for parts in ranks for part in parts for i in part.tolist()) == units.tolist()
    assert all(len(part) <= batch_size for parts in ranks for part in parts)


@given(LENGTHS, st.integers(0, 3))
def test_bins_hold_every_example_once_within_the_room(lengths, seed):
    bins = pack_bins(lengths, max_length=64, seed=seed)
    assert sorted(i for bin_ in bins for i in bin_) == list(range(len(lengths)))
    assert all(sum(lengths[bin_]) <= 64 for bin_ in bins)
    # Best fit decreasing never leaves two bins that one could hold, and stays near the bound.
    rooms = sorted(sum(lengths[bin_]) for bin_ in bins)
    assert len(rooms) < 2 or rooms[0] + rooms[1] > 64
    assert len(bins) <= 11 / 9 * -(-lengths.sum() // 64) + 4 + sum(2 * n > 64 for n in lengths)


def test_packing_by_hand():
    lengths = np.array([6, 3, 4, 7, 2])
    bins = pack_bins(lengths, max_length=10, seed=0)
    assert sorted(sorted(bin_) for bin_ in bins) == [[0, 2], [1, 3], [4]]


def test_packing_a_lot_is_quick():
    lengths = np.random.default_rng(0).integers(1, 2048, 50_000)
    bins = pack_bins(lengths, max_length=2048, seed=0)
    assert lengths.sum() / (2048 * len(bins)) > 0.99


def test_too_long_an_example_is_our_own_mistake():
    with pytest.raises(AssertionError):
        pack_bins(np.array([9]), max_length=8, seed=0)
