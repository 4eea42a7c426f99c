"""How long decisions take: what is timed, and what is made of the times."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from kdlab.batch import Batch
from kdlab.training import latency as module
from kdlab.training.latency import alone, latency


def batch(lengths: list[int], *, left: bool = False) -> Batch:
    T = max(lengths)
    mask_BT = torch.tensor([[1] * n + [0] * (T - n) for n in lengths])
    ids_BT = torch.arange(1, T + 1).repeat(len(lengths), 1) * mask_BT
    if left:
        mask_BT, ids_BT = mask_BT.flip(1), ids_BT.flip(1)
    labels_BT = torch.arange(len(lengths))[:, None]
    return Batch(input_ids_BT=ids_BT, attention_mask_BT=mask_BT, labels_BT=labels_BT, shift=False, decides=True)


@pytest.mark.parametrize("left", [False, True])
def test_an_example_alone_has_no_padding(left: bool) -> None:
    one = alone(batch([5, 2, 3], left=left), 1)
    ids = [1, 2] if not left else [2, 1]
    assert (one.input_ids_BT.tolist(), one.labels_BT.tolist()) == ([ids], [[1]])
    assert one.attention_mask_BT is not None
    assert one.attention_mask_BT.tolist() == [[1, 1]]
    assert (one.decides, one.tokens, one.rows) == (True, 2, 1)


def test_every_example_is_timed_alone_and_every_batch_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass takes a second for each position that it reads."""
    clock, seen = [0.0], []

    def run(read: Batch) -> None:
        seen.append(tuple(read.input_ids_BT.shape))
        clock[0] += read.input_ids_BT.numel() / 1000

    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    found = latency(run, [batch([8, 7, 6, 5]), batch([4, 2])])
    assert seen[0] == (1, 8)  # not timed
    assert sorted(seen[1:7]) == [(1, n) for n in (2, 4, 5, 6, 7, 8)]
    assert sorted(seen[7:]) == [(2, 4), (4, 8)]
    assert found["p50_ms"] == pytest.approx(np.median([2, 4, 5, 6, 7, 8]))
    assert found["p95_ms"] == pytest.approx(np.percentile([2, 4, 5, 6, 7, 8], 95))
    assert found["examples_per_second"] == pytest.approx(6 / 0.040)


def test_a_slow_model_is_not_timed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=1.0)
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    passes = []
    found = latency(passes.append, [batch([3] * 10)] * 10)
    assert len(passes) == 1 + 2 + 2  # a second each, until 1.5 are over
    assert found == {"p50_ms": 1000.0, "p95_ms": 1000.0, "examples_per_second": 10.0}


def test_nothing_to_time_is_refused() -> None:
    with pytest.raises(ValueError, match="no rows to time"):
        latency(lambda read: None, [])
