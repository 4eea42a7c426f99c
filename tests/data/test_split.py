from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.data.split import examples, hold_out, repeats, windows
from kdlab.data.token_file import Tokens, read_tokens, write_tokens
from kdlab.data.verdict import Reading
from kdlab.text.encoding import Encoded


def token_file(folder, documents, chat=False) -> Tokens:
    """`documents` are lists of ids; of a conversation the second half is supervised."""
    encoded = []
    for ids in documents:
        mask = np.arange(len(ids)) >= (len(ids) // 2 if chat else 0)
        encoded.append(Encoded(input_ids=np.array(ids, np.int32), supervised=mask, chat=chat))
    write_tokens(folder, iter(encoded), Reading(source="", format="text", columns=[]), vocabulary=100_000)
    return read_tokens(folder)


def everything(file):
    return np.ones(len(file), bool)


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=8), max_length=st.integers(8, 30))
def test_windows_lose_nothing(tmp_path_factory, lengths, max_length):
    file = token_file(tmp_path_factory.mktemp("w") / "a", [list(range(n)) for n in lengths])
    starts, stops, source = windows(file, max_length)
    for d, n in enumerate(lengths):
        pieces = [file.ids_T[a:b].tolist() for a, b in zip(starts[source == d], stops[source == d], strict=True)]
        assert [i for piece in pieces for i in piece] == list(range(n))
        assert all(len(piece) <= max_length for piece in pieces)
        assert n == 1 or all(len(piece) > 1 for piece in pieces)
        assert len(pieces) == -(-n // max_length)


def test_conversations_are_cut_at_the_end_and_counted(tmp_path):
    file = token_file(tmp_path / "a", [list(range(n)) for n in (6, 12, 30)], chat=True)
    store, part = examples(file, everything(file), max_length=10)
    assert [store[i].input_ids.tolist() for i in range(2)] == [list(range(6)), list(range(10))]
    assert (part.examples, part.cut, part.cut_tokens) == (2, 1, 2)
    assert part.skipped == {"whose response lies wholly beyond dataset.max_length": 1}  # 15 of 30 are the prompt
    assert (part.tokens, part.supervised) == (16, 3 + 4)


def test_a_document_of_one_token_is_skipped_and_counted(tmp_path):
    file = token_file(tmp_path / "a", [[1], [1, 2]])
    _, part = examples(file, everything(file), max_length=8)
    assert part.skipped == {"with no token to predict": 1}


def rows_file(folder, count, chat=True):
    return token_file(folder, [[i, i + 1, i + 2, i + 3] for i in range(count)], chat=chat)


@pytest.mark.parametrize(("heldout", "count"), [(0.1, 20), (0.25, 50), (7, 7), (0.0001, 1)])
def test_a_share_or_a_count_of_rows(tmp_path, heldout, count):
    file = rows_file(tmp_path / "a", 200)
    held, kept, said = hold_out(file, heldout=heldout, seed=0, max_length=512)
    assert held.sum() == count
    assert kept is None
    assert f"{count} rows" in said


def test_the_seed_decides_and_other_rows_do_not_matter(tmp_path):
    many, fewer = rows_file(tmp_path / "a", 400), rows_file(tmp_path / "b", 390)
    choose = {seed: hold_out(many, heldout=0.1, seed=seed, max_length=512)[0] for seed in (0, 1)}
    again = hold_out(many, heldout=0.1, seed=0, max_length=512)[0]
    assert (choose[0] == again).all()
    assert (choose[0] != choose[1]).any()
    shorter = hold_out(fewer, heldout=0.1, seed=0, max_length=512)[0]
    assert (shorter != choose[0][:390]).sum() <= 3  # only those at the border move


@settings(deadline=None)
@given(contents=st.lists(st.integers(0, 8), min_size=12, max_size=40), seed=st.integers(0, 5), chat=st.booleans())
def test_repeated_rows_stay_on_one_side(tmp_path_factory, contents, seed, chat):
    if len(set(contents)) < 3:
        contents = [*contents, 20, 21, 22]
    file = token_file(tmp_path_factory.mktemp("d") / "a", [[c, 1, 2, 3] for c in contents], chat=chat)
    held, _, _ = hold_out(file, heldout=0.2, seed=seed, max_length=512)
    sides = {c: {bool(h) for h, k in zip(held, contents, strict=True) if k == c} for c in contents}
    assert all(len(side) == 1 for side in sides.values())
    assert repeats(file) == len(contents) - len(set(contents))


def test_long_texts_are_shared_out_by_tokens(tmp_path):
    lengths = np.random.default_rng(0).integers(50, 2000, 60)
    file = token_file(tmp_path / "a", [np.arange(n) + 7 * d for d, n in enumerate(lengths)])
    for seed in range(5):
        held, _, _ = hold_out(file, heldout=0.1, seed=seed, max_length=128)
        assert 0.1 <= file.lengths[held].sum() / lengths.sum() <= 0.125


def test_few_texts_give_their_tails(tmp_path):
    file = token_file(tmp_path / "a", [list(range(1000)), list(range(5000, 5200))])
    held, held_windows, _ = hold_out(file, heldout=0.2, seed=0, max_length=10)
    train, _ = examples(file, held, max_length=10, keep=~held_windows)
    heldout, _ = examples(file, held, max_length=10, keep=held_windows)
    assert [int(i) for e in range(len(heldout)) for i in heldout[e].input_ids] == [
        *range(800, 1000),
        *range(5160, 5200),
    ]
    assert [int(i) for e in range(len(train)) for i in train[e].input_ids] == [*range(800), *range(5000, 5160)]


def test_one_text_and_a_count_gives_that_many_windows(tmp_path):
    file = token_file(tmp_path / "a", [list(range(1000))])
    _, held_windows, _ = hold_out(file, heldout=7, seed=0, max_length=10)
    assert held_windows.tolist() == [False] * 93 + [True] * 7


def test_nothing_left_to_train_on_is_an_error(tmp_path):
    chats = rows_file(tmp_path / "a", 5)
    with pytest.raises(ValueError, match=r"dataset.heldout=5: leaves none of the 5 rows"):
        hold_out(chats, heldout=5, seed=0, max_length=512)
    with pytest.raises(ValueError, match=r"one row cannot be split"):
        hold_out(rows_file(tmp_path / "b", 1), heldout=0.1, seed=0, max_length=512)
    short = rows_file(tmp_path / "c", 1, chat=False)
    with pytest.raises(ValueError, match=r"leaves none of the 1 windows"):
        hold_out(short, heldout=0.1, seed=0, max_length=512)
