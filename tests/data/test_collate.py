from __future__ import annotations

import numpy as np
import pytest
import torch

from kdlab.data.collate import filler, packed, padded
from kdlab.data.store import Example, Layout
from kdlab.models.tiny import tiny_model
from kdlab.rows import IGNORE


def example(*ids: int, supervised: list[bool] | None = None, row: int | None = None) -> Example:
    mask = [True] * len(ids) if supervised is None else supervised
    return Example(input_ids=np.array(ids, np.int32), supervised=np.array(mask, bool), row=row)


def test_padding_by_hand():
    batch = padded(
        [example(5, 6, 7, supervised=[False, False, True], row=4), example(8, 9, row=2)], Layout(pad_id=0, longest=512)
    )
    assert batch.input_ids_BT.tolist() == [[5, 6, 7, 0, 0, 0, 0, 0], [8, 9, 0, 0, 0, 0, 0, 0]]
    ignored = [IGNORE] * 5
    assert batch.labels_BT.tolist() == [[IGNORE, IGNORE, 7, *ignored], [IGNORE, 9, IGNORE, *ignored]]
    assert batch.attention_mask_BT.tolist() == [[1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0]]
    assert (batch.tokens, batch.rows, batch.example_ids) == (5, 2, (4, 2))
    assert batch.input_ids_BT.dtype == batch.labels_BT.dtype == torch.int64


def test_the_width_never_passes_the_longest_allowed():
    assert padded([example(*range(9))], Layout(pad_id=0, longest=12)).input_ids_BT.shape == (1, 12)
    assert padded([example(*range(9))], Layout(pad_id=0, longest=100)).input_ids_BT.shape == (1, 16)


def test_packing_by_hand():
    batch = packed(
        [[example(5, 6, 7, row=3), example(8, 9, row=0)], [example(1, 2, 3, 4, row=7)]], Layout(pad_id=0, longest=512)
    )
    assert batch.example_ids == (3, 0, 7)
    assert batch.input_ids_BT.tolist() == [[5, 6, 7, 8, 9, 0, 0, 0], [1, 2, 3, 4, 0, 0, 0, 0]]
    assert batch.position_ids_BT.tolist() == [[0, 1, 2, 0, 1, 0, 1, 2], [0, 1, 2, 3, 0, 1, 2, 3]]
    i = IGNORE
    assert batch.labels_BT.tolist() == [[i, 6, 7, i, 9, i, i, i], [i, 2, 3, 4, i, i, i, i]]
    assert batch.attention_mask_BT is None
    assert (batch.tokens, batch.rows) == (9, 6)


def test_no_label_is_predicted_across_documents():
    random = np.random.default_rng(0)
    bins = [[example(*random.integers(1, 250, n)) for n in (5, 1, 9, 2)] for _ in range(3)]
    batch = packed(bins, Layout(pad_id=0, longest=64))
    assert (batch.labels_BT[batch.position_ids_BT == 0] == IGNORE).all()
    assert batch.rows == sum(len(e) - 1 for bin_ in bins for e in bin_)


@pytest.mark.parametrize("pack", [False, True])
def test_a_filler_predicts_nothing(pack):
    batch = filler(Layout(pad_id=3), pack=pack)
    assert batch.rows == 0
    assert batch.input_ids_BT.tolist() == [[3]]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_packed_documents_do_not_see_each_other(kind):
    """The hidden states of each document in a pack are those of the document alone, in a real attention stack."""
    model = tiny_model(kind)
    random = np.random.default_rng(1)
    bins = [[example(*random.integers(3, 250, n)) for n in sizes] for sizes in ((7, 12, 3), (20,), (1, 1, 15, 6))]
    batch = packed(bins, Layout(pad_id=0, longest=512))
    with torch.no_grad():
        together = model(**batch.model_inputs(), use_cache=False, output_hidden_states=True).hidden_states[-1]
        for b, bin_ in enumerate(bins):
            t = 0
            for document in bin_:
                ids = torch.tensor(document.input_ids[None].astype(np.int64))
                alone = model(input_ids=ids, use_cache=False, output_hidden_states=True).hidden_states[-1][0]
                torch.testing.assert_close(together[b, t : t + len(document)], alone, atol=2e-5, rtol=1e-4)
                t += len(document)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_leak_test_would_see_a_leak(kind):
    """With an attention mask the models ignore the restarts: what the test above must be able to notice."""
    model = tiny_model(kind)
    first, second = example(*range(10, 30)), example(*range(40, 60))
    batch = packed([[first, second]], Layout(pad_id=0, longest=512))
    mask = torch.ones_like(batch.input_ids_BT)
    with torch.no_grad():
        leaky = model(**batch.model_inputs(), attention_mask=mask, use_cache=False, output_hidden_states=True)
        alone = model(input_ids=batch.input_ids_BT[:, 20:40], use_cache=False, output_hidden_states=True)
    assert (leaky.hidden_states[-1][:, 20:40] - alone.hidden_states[-1]).abs().max() > 0.1
