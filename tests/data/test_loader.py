from __future__ import annotations

import numpy as np
import pytest
import torch

from kdlab.batch import Batch
from kdlab.data.loader import StepLoader, heldout_batches
from kdlab.data.loader_options import LoaderOptions
from kdlab.data.store import TokenStore
from kdlab.data.token_file import read_tokens, write_tokens
from kdlab.data.verdict import Reading
from kdlab.rows import IGNORE
from kdlab.text.encoding import Encoded

LONGEST = 32


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """45 conversations of 2 to 30 tokens; the ids tell which one they belong to."""
    random = np.random.default_rng(3)
    documents = []
    for i in range(45):
        T = int(random.integers(2, 31))
        mask = np.arange(T) >= T // 2
        documents.append(Encoded(input_ids=np.full(T, i + 1, np.int32), supervised=mask, chat=True, row=i))
    folder = tmp_path_factory.mktemp("store") / "a"
    write_tokens(folder, iter(documents), Reading(source="", format="messages", columns=[]), vocabulary=256)
    file = read_tokens(folder)
    return TokenStore(file, starts=file.offsets[:-1], stops=file.offsets[1:], source=np.arange(45), max_length=LONGEST)


def loader(store, **changes) -> StepLoader:
    return StepLoader(store, LoaderOptions(**({"batch_size": 4, "pad_id": 0} | changes)))


def same(a: Batch, b: Batch) -> bool:
    pairs = [(a.input_ids_BT, b.input_ids_BT), (a.labels_BT, b.labels_BT)]
    pairs += [(a.attention_mask_BT, b.attention_mask_BT), (a.position_ids_BT, b.position_ids_BT)]
    alike = all(x is y is None or torch.equal(x, y) for x, y in pairs)
    return alike and a.example_ids == b.example_ids and a.padding == b.padding


def equal(left, right) -> bool:
    return len(left) == len(right) and all(
        len(a) == len(b) and all(map(same, a, b)) for a, b in zip(left, right, strict=True)
    )


def ids(step) -> list[int]:
    return sorted(i for batch in step for i in batch.example_ids)


KINDS = [{}, {"accumulate": 3}, {"group_by_length": True}, {"pack": True}, {"pack": True, "accumulate": 2}]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_an_epoch_has_every_example_once_and_every_prediction(store, kind):
    made = loader(store, **kind)
    for _ in range(2):
        steps = list(made)
        assert len(steps) == len(made)
        assert sorted(i for step in steps for i in ids(step)) == list(range(45))
        assert sum(batch.rows for step in steps for batch in step) == store.supervised_tokens
        assert sum(batch.tokens for step in steps for batch in step) == store.tokens
        assert all(len(step) == kind.get("accumulate", 1) for step in steps[:-1])


def test_batches_hold_the_examples_they_name(store):
    for step in loader(store, accumulate=2):
        for batch in step:
            assert batch.input_ids_BT.shape[1] % 8 == 0
            for b, i in enumerate(batch.example_ids):
                n = int(batch.attention_mask_BT[b].sum())
                assert batch.input_ids_BT[b, :n].tolist() == store[i].input_ids.tolist()
                labels = np.where(store[i].supervised, store[i].input_ids, IGNORE)
                assert batch.labels_BT[b, :n].tolist() == labels.tolist()
                assert (batch.labels_BT[b, n:] == IGNORE).all()


@pytest.mark.parametrize(
    ("kind", "workers"), [*((kind, 0) for kind in KINDS), *((kind, 2) for kind in KINDS[1:4])], ids=str
)
def test_resuming_gives_the_steps_that_would_have_come(store, kind, workers):
    whole = loader(store, **kind)
    expected = [step for _ in range(3) for step in whole]
    for stop in (1, len(whole) - 1, len(whole), len(whole) + 2):
        broken = loader(store, workers=workers if stop == 1 else 0, **kind)
        seen = []
        while len(seen) < stop:
            for step in broken:
                seen.append(step)
                if len(seen) == stop:
                    break
        state = broken.state_dict()
        assert all(isinstance(value, int | str) for value in state.values())  # loadable with weights_only=True
        resumed = loader(store, workers=workers if stop == 1 else 0, **kind)
        resumed.load_state_dict(state)
        rest = []
        while len(seen) + len(rest) < len(expected):
            rest.extend(resumed)
        assert equal(seen + rest, expected)


def test_the_global_random_state_neither_matters_nor_moves(store):
    first = list(loader(store))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert equal(list(loader(store)), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_or_epoch_is_another_order(store):
    made = loader(store)
    first, second = list(made), list(made)
    assert not equal(first, second)
    assert not equal(first, list(loader(store, seed=1)))


@pytest.mark.parametrize("changes", [{"seed": 1}, {"batch_size": 5}, {"pack": True}, {"group_by_length": True}])
def test_a_place_in_other_data_is_refused(store, changes):
    with pytest.raises(ValueError, match=r"made with other training data"):
        loader(store, **changes).load_state_dict(loader(store).state_dict())


@pytest.mark.parametrize("kind", [{}, {"group_by_length": True}, {"pack": True}], ids=str)
def test_eight_by_one_is_one_by_eight_is_two_ranks_by_four(store, kind):
    big = [ids(step) for step in loader(store, batch_size=8, **kind)]
    small = [ids(step) for step in loader(store, batch_size=1, accumulate=8, **kind)]
    ranks = [list(loader(store, batch_size=4, rank=r, world=2, **kind)) for r in range(2)]
    assert big == small == [sorted(ids(a) + ids(b)) for a, b in zip(*ranks, strict=True)]
    states = [loader(store, batch_size=b, accumulate=a, **kind).state_dict() for b, a in ((8, 1), (1, 8))]
    assert states[0] == states[1]


@pytest.mark.parametrize("pack", [False, True])
def test_ranks_share_a_step_and_run_in_lockstep(store, pack):
    ranks = [list(loader(store, batch_size=2, accumulate=3, rank=r, world=4, pack=pack)) for r in range(4)]
    assert len({len(steps) for steps in ranks}) == 1
    for steps in zip(*ranks, strict=True):
        assert len({len(step) for step in steps}) == 1
        shares = [ids(step) for step in steps]
        assert sum(map(len, shares)) == len({i for share in shares for i in share})
    assert sorted(i for steps in ranks for step in steps for i in ids(step)) == list(range(45))


def test_a_rank_without_an_example_computes_one_that_weighs_nothing(store):
    last = [list(loader(store, batch_size=1, rank=r, world=7))[-1] for r in range(7)]  # 45 = 6 * 7 + 3
    assert [step[0].rows > 0 for step in last] == [True] * 3 + [False] * 4
    assert all(batch.example_ids == () for step in last[3:] for batch in step)


def test_held_out_examples_come_once_each(store):
    batches = list(heldout_batches(store, batch_size=8, pad_id=0))
    assert sorted(i for batch in batches for i in batch.example_ids) == list(range(45))
    assert sum(batch.rows for batch in batches) == store.supervised_tokens


def test_held_out_tokens_are_capped_by_a_fixed_choice(store):
    batches = list(heldout_batches(store, batch_size=8, pad_id=0, tokens=200))
    again = list(heldout_batches(store, batch_size=3, pad_id=0, tokens=200))
    assert 170 <= sum(batch.tokens for batch in batches) <= 200
    assert ids(batches) == ids(again)
    assert len(list(heldout_batches(store, batch_size=8, pad_id=0, tokens=1))) == 1
