from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlab.data.store import TokenStore, count_supervised
from kdlab.data.token_file import read_tokens, write_tokens
from kdlab.data.verdict import Reading
from kdlab.text.encoding import Encoded


def reading() -> Reading:
    return Reading(source="here", format="text", columns=["text"], rows=3)


def encoded(ids, supervised=None, chat=False) -> Encoded:
    mask = np.ones(len(ids), bool) if supervised is None else np.array(supervised, bool)
    return Encoded(input_ids=np.array(ids, np.int32), supervised=mask, chat=chat)


@pytest.mark.parametrize(("vocabulary", "dtype"), [(65536, np.uint16), (65537, np.int32)])
def test_what_is_written_is_read_back(tmp_path, vocabulary, dtype):
    documents = [encoded([1, 2, 65535]), encoded([7], chat=True), encoded([3, 4], [False, True])]
    write_tokens(tmp_path / "a", iter(documents), reading(), vocabulary=vocabulary)
    file = read_tokens(tmp_path / "a")
    assert file.ids_T.dtype == dtype
    assert isinstance(file.ids_T, np.memmap)
    assert isinstance(file.supervised_T, np.memmap)
    assert file.ids_T.tolist() == [1, 2, 65535, 7, 3, 4]
    assert file.supervised_T.tolist() == [True, True, True, True, False, True]
    assert file.lengths.tolist() == [3, 1, 2]
    assert file.chat.tolist() == [False, True, False]
    assert file.reading == reading()


def store_of(folder, documents) -> TokenStore:
    write_tokens(folder, iter(documents), reading(), vocabulary=256)
    file = read_tokens(folder)
    starts, stops = file.offsets[:-1], file.offsets[1:]
    return TokenStore(file, starts=starts, stops=stops, source=np.arange(len(file)), max_length=512)


def test_a_first_token_is_never_supervised(tmp_path):
    store = store_of(tmp_path / "a", [encoded([5, 6, 7]), encoded([8, 9], [True, False]), encoded([1])])
    assert store[0].supervised.tolist() == [False, True, True]
    assert store[0].input_ids.tolist() == [5, 6, 7]
    assert store[0].input_ids.dtype == np.int32
    assert (len(store), store.tokens, store.supervised_tokens) == (3, 6, 2)
    assert store.lengths.tolist() == [3, 2, 1]
    assert store.supervised.tolist() == [2, 0, 0]


def test_the_content_hash_follows_ids_masks_and_boundaries(tmp_path):
    variants = [
        [encoded([1, 2, 3])],
        [encoded([1, 2, 4])],
        [encoded([1, 2, 3], [True, False, True])],
        [encoded([1, 2]), encoded([3])],
    ]
    hashes = [store_of(tmp_path / str(i), documents).content_hash for i, documents in enumerate(variants)]
    assert len(set(hashes)) == 4
    assert store_of(tmp_path / "again", variants[0]).content_hash == hashes[0]


def test_a_store_is_pickled_as_its_place_not_its_tokens(tmp_path):
    store = store_of(tmp_path / "a", [encoded(np.arange(200)) for _ in range(500)])
    sent = pickle.dumps(store.file)
    assert len(sent) < 1000
    assert pickle.loads(sent).ids_T.tolist() == store.file.ids_T.tolist()


def test_a_write_that_fails_leaves_nothing(tmp_path):
    def broken():
        yield encoded([1, 2])
        raise ValueError("line 3")

    with pytest.raises(ValueError, match="line 3"):
        write_tokens(tmp_path / "a", broken(), reading(), vocabulary=256)
    assert list(tmp_path.iterdir()) == []


def test_several_may_write_at_once(tmp_path):
    documents = [encoded(np.arange(i % 50 + 1)) for i in range(200)]
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(write_tokens, tmp_path / "a", iter(documents), reading(), vocabulary=256) for _ in range(8)]
    assert [job.exception() for job in jobs] == [None] * 8
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert len(read_tokens(tmp_path / "a")) == 200


@given(st.lists(st.lists(st.booleans(), max_size=6), min_size=1, max_size=12), st.data())
def test_counting_agrees_with_counting_by_hand(masks, data):
    ends = np.cumsum([len(mask) for mask in masks])
    starts, stops = ends - [len(mask) for mask in masks], ends
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=len(masks), max_size=len(masks))))
    flat = np.array([m for mask in masks for m in mask], bool)
    counts = count_supervised(flat, starts[chosen] + 1, stops[chosen])
    assert counts.tolist() == [sum(mask[1:]) for mask, c in zip(masks, chosen, strict=True) if c]
