"""Which example goes into which step: a pure function of lengths, seed and epoch, the same on every rank.

A *unit* is what fills one row of a batch: an example, or a bin of packed examples. A step of the whole job takes
`per_step = batch_size * accumulate * ranks` units, so 8 x 1, 1 x 8 and 2 ranks x 4 take the same ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
GROUPED_STEPS = 50
"""Length grouping sorts this many steps at a time, so that every group is still a random sample."""


def epoch_order(lengths: Ints, *, seed: int, epoch: int, per_step: int, group_by_length: bool) -> Ints:
    """The units in the order of this epoch; each run of `per_step` is a step, the last may be shorter.

    With `group_by_length`, stretches of up to `GROUPED_STEPS` steps are sorted by length and the steps then shuffled.
    """
    random = np.random.default_rng([seed, epoch])
    order: Ints = random.permutation(len(lengths)).astype(np.int64)
    if not group_by_length:
        return order
    steps = max(1, min(GROUPED_STEPS, len(order) // (4 * per_step)))
    stretches = [order[i : i + steps * per_step] for i in range(0, len(order), steps * per_step)]
    order = np.concatenate([s[np.argsort(-lengths[s], kind="stable")] for s in stretches]) if stretches else order
    full = len(order) // per_step
    shuffled = order[: full * per_step].reshape(full, per_step)[random.permutation(full)].reshape(-1)
    return np.concatenate([shuffled, order[full * per_step :]])


def micro_batches(units: Ints, lengths: Ints, *, batch_size: int, rank: int, world: int) -> list[Ints]:
    """This rank's micro-batches of a step whose units are given: longest first, dealt out to the ranks in turn.

    Every rank gets the same number of micro-batches; where the last step of an epoch has too few units, some are empty.
    """
    by_length = units[np.argsort(-lengths[units], kind="stable")]
    count = -(-len(units) // (world * batch_size))
    mine = by_length[rank::world]
    return [mine[i * batch_size : (i + 1) * batch_size] for i in range(count)]


def pack_bins(lengths: Ints, *, max_length: int, seed: int) -> list[list[int]]:
    """Examples put together into bins of at most `max_length` tokens: best fit, longest first.

    Each example goes to the fullest bin it still fits into (Johnson et al., 1974: at most 11/9 of the fewest bins,
    plus 4). Among equally long examples the seed decides. Lengths must not exceed `max_length`.
    """
    assert len(lengths) == 0 or int(lengths.max()) <= max_length
    shuffled = np.random.default_rng([seed]).permutation(len(lengths))
    order = shuffled[np.argsort(-lengths[shuffled], kind="stable")]
    bins: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(max_length + 1)]
    rooms = 0  # bit r is set where a bin with r tokens of room is
    for i, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            chosen = by_room[room].pop()
            if not by_room[room]:
                rooms ^= 1 << room
        else:
            room, chosen = max_length, len(bins)
            bins.append([])
        bins[chosen].append(i)
        if room > length:
            by_room[room - length].append(chosen)
            rooms |= 1 << (room - length)
    return bins
