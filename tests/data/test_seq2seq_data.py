"""Rows for encoder-decoder models: from the file to the batch."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tokenizers import processors

from kdlab.data.dataset import DatasetConfig, Side, build
from kdlab.data.loader import StepLoader, heldout_batches, open_loader
from kdlab.data.loader_options import LoaderOptions
from kdlab.models.tiny import byte_tokenizer
from kdlab.rows import IGNORE

EOS = 2


def closing_tokenizer():
    """As T5's: `<eos>` stands behind every text."""
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", EOS)]
    )
    return tokenizer


def ids(text: str) -> list[int]:
    return byte_tokenizer()(text)["input_ids"]


SIDE = Side(tokenizer=closing_tokenizer(), seq2seq=True)


@pytest.fixture
def config(tmp_path):
    def make(rows, **changes) -> DatasetConfig:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return DatasetConfig(**({"path": str(path), "cache_dir": str(tmp_path / "cache"), "heldout": 1} | changes))

    return make


def pairs(count: int) -> list[dict[str, str]]:
    """Sources of 1 to 29 letters and targets of 1 to 12, all different."""
    return [{"source": chr(97 + i % 26) * (1 + 7 * i % 29), "target": f"{i}" * (1 + i % 6)} for i in range(count)]


def everything(data) -> list:
    return [store[i] for store in (data.train, data.heldout) for i in range(len(store))]


def test_a_batch_by_hand(config):
    rows = [
        {"source": "abc", "target": "xy"},
        {"source": "abcdefghijkl", "target": "z"},
        {"source": "q", "target": "q"},
    ]
    data = build(config(rows, heldout=2), SIDE)
    batches = [b for s in (data.train, data.heldout) for b in heldout_batches(s, batch_size=3, pad_id=0)]
    found = {}
    for batch in batches:
        assert not batch.shift
        assert batch.input_ids_BT.dtype == batch.labels_BT.dtype == torch.int64
        for b, row in enumerate(batch.example_ids):
            read = batch.input_ids_BT[b][batch.attention_mask_BT[b].bool()].tolist()
            labels = batch.labels_BT[b].tolist()
            found[row] = read, [i for i in labels if i != IGNORE]
            assert labels == found[row][1] + [IGNORE] * (8 - len(found[row][1]))
            assert (batch.input_ids_BT[b][~batch.attention_mask_BT[b].bool()] == 0).all()
    assert found == {
        0: ([*ids("abc"), EOS], [*ids("xy"), EOS]),
        1: ([*ids("abcdefghijkl"), EOS], [*ids("z"), EOS]),
        2: ([*ids("q"), EOS], [*ids("q"), EOS]),
    }
    assert sum(batch.tokens for batch in batches) == (4 + 3) + (13 + 2) + (2 + 2)
    assert sum(batch.rows for batch in batches) == 3 + 2 + 2, "the first target is predicted too"


def test_sources_and_targets_are_cut_and_counted(config):
    rows = [{"source": "abcdefghijkl", "target": "uvwxyz"}, {"source": "abcdefg", "target": "uv"}]
    data = build(config(rows, max_length=8, max_target_length=3), SIDE)
    read = {example.row: example for example in everything(data)}
    assert read[0].source_ids.tolist() == [*ids("abcdefg"), EOS], "a cut source is closed as transformers closes it"
    assert read[0].input_ids.tolist() == ids("uvw"), "a cut target does not end here"
    assert read[1].source_ids.tolist() == [*ids("abcdefg"), EOS]
    assert read[1].input_ids.tolist() == [*ids("uv"), EOS]
    assert all(example.supervised.all() for example in read.values())
    parts = [data.verdict.train, data.verdict.heldout]
    assert sum(part.cut for part in parts) == 1
    assert sum(part.cut_tokens for part in parts) == 4
    assert sum(part.cut_sources for part in parts) == 1
    assert sum(part.cut_source_tokens for part in parts) == 5
    assert sum(part.source_tokens for part in parts) == 16
    assert sum(part.tokens for part in parts) == 22
    assert sum(part.supervised for part in parts) == 6
    said = str(data.verdict)
    assert "11 tokens (8 read, 3 supervised)" in said
    assert "dataset.max_target_length cut 1 targets by 4 tokens" in said
    assert "dataset.max_length cut 1 sources by 5 tokens" in said
    content = json.loads(json.dumps(data.verdict.as_dict()))
    assert content["train"]["source_tokens"] + content["heldout"]["source_tokens"] == 16


def test_the_cut_of_a_source_is_that_of_transformers(config):
    text = "some words that are too long"
    data = build(config([{"source": text, "target": "a"}, {"source": "b", "target": "b"}], max_length=11), SIDE)
    wanted = closing_tokenizer()(text, truncation=True, max_length=11)["input_ids"]
    assert next(e for e in everything(data) if e.row == 0).source_ids.tolist() == wanted


def test_targets_are_as_long_as_sources_where_nothing_is_said(config):
    data = build(config([{"source": "a", "target": "b" * 20}, {"source": "b", "target": "b"}], max_length=8), SIDE)
    assert sorted(len(e.input_ids) for e in everything(data)) == [2, 8]


def test_cuts_need_no_second_tokenisation_and_another_prefix_does(config):
    rows = pairs(9)
    assert not build(config(rows), SIDE).verdict.cached
    assert build(config(rows, max_length=16, max_target_length=4, heldout=2), SIDE).verdict.cached
    prefixed = build(config(rows, prefix="summarize: "), SIDE)
    assert not prefixed.verdict.cached
    assert all(e.source_ids.tolist()[:11] == ids("summarize: ") for e in everything(prefixed))


def test_languages_reach_the_rows_and_the_cache(config):
    rows = [{"translation": {"de": f"Haus {i}", "en": f"house {i}"}} for i in range(4)]
    there = build(config(rows, source_language="de", target_language="en", prefix=""), SIDE)
    back = build(config(rows, source_language="en", target_language="de", prefix=""), SIDE)
    assert not back.verdict.cached
    decode = byte_tokenizer().decode
    assert sorted(decode(e.input_ids) for e in everything(there)) == [f"house {i}<eos>" for i in range(4)]
    assert sorted(decode(e.source_ids) for e in everything(back)) == [f"house {i}<eos>" for i in range(4)]


def test_the_split_follows_source_and_target(config):
    same = [{"source": f"{i}", "target": "yes"} for i in range(30)]
    data = build(config(same, heldout=10), SIDE)
    assert (len(data.train), len(data.heldout)) == (20, 10), "one target, thirty rows"
    assert data.verdict.duplicates == 0


def options(**changes) -> LoaderOptions:
    return LoaderOptions(**({"batch_size": 4, "pad_id": 0} | changes))


def told(batch) -> list:
    tensors = batch.input_ids_BT, batch.labels_BT, batch.attention_mask_BT
    return [batch.example_ids, *(tensor.tolist() for tensor in tensors)]


def predicted(step) -> list:
    """Every supervised row of a step: which example it is of, where in it, and its label."""
    rows = []
    for batch in step:
        for b, row in enumerate(batch.example_ids):
            rows += [(row, t, i) for t, i in enumerate(batch.labels_BT[b].tolist()) if i != IGNORE]
    return sorted(rows)


@pytest.mark.parametrize("grouped", [False, True])
def test_eight_by_one_is_one_by_eight_is_two_ranks_by_four(config, grouped):
    store = build(config(pairs(45)), SIDE).train

    def steps(**changes) -> list:
        return list(StepLoader(store, options(group_by_length=grouped, **changes)))

    big, small = steps(batch_size=8), steps(batch_size=1, accumulate=8)
    ranks = [steps(batch_size=4, rank=rank, world=2) for rank in range(2)]
    assert [predicted(step) for step in big] == [predicted(step) for step in small]
    assert [predicted(step) for step in big] == [predicted(a + b) for a, b in zip(*ranks, strict=True)]
    assert sum(batch.rows for step in big for batch in step) == store.supervised_tokens
    assert sum(batch.tokens for step in big for batch in step) == store.tokens


def test_a_group_is_of_like_length_on_both_sides_together(config):
    store = build(config(pairs(45)), SIDE).train
    assert store.lengths.tolist() == [len(store[i].source_ids) + len(store[i].input_ids) for i in range(44)]
    spread = {}
    for grouped in (False, True):
        steps = StepLoader(store, options(batch_size=2, group_by_length=grouped))
        sizes = [sorted(store.lengths[[_at(store, row) for row in step[0].example_ids]]) for step in steps]
        spread[grouped] = sum(size[-1] - size[0] for size in sizes)
    assert spread[True] < 0.5 * spread[False]


def _at(store, row: int) -> int:
    return next(i for i in range(len(store)) if store[i].row == row)


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_gives_the_steps_that_would_have_come(config, workers):
    store = build(config(pairs(21)), SIDE).train
    whole = StepLoader(store, options(accumulate=2))
    expected = [[told(b) for b in step] for _ in range(2) for step in whole]
    broken = StepLoader(store, options(accumulate=2, workers=workers))
    seen = []
    for step in broken:
        seen.append([told(b) for b in step])
        if len(seen) == 2:
            break
    resumed = StepLoader(store, options(accumulate=2, workers=workers))
    resumed.load_state_dict(broken.state_dict())
    for _ in range(2):
        seen += [[told(b) for b in step] for step in resumed]
    assert seen == expected


def test_a_rank_without_an_example_computes_one_that_weighs_nothing(config):
    store = build(config(pairs(4)), SIDE).train
    last = [list(StepLoader(store, options(batch_size=1, rank=rank, world=2)))[-1] for rank in range(2)]
    assert [step[0].rows > 0 for step in last] == [True, False]
    empty = last[1][0]
    assert empty.input_ids_BT.tolist() == [[0]]
    assert (empty.labels_BT.tolist(), empty.shift) == ([[IGNORE]], False)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_gives_the_examples_of_the_store(config, workers):
    rows = pairs(20)
    stored = build(config(rows, heldout=4, max_length=16, max_target_length=5), SIDE)
    streamed = build(config(rows, heldout=4, max_length=16, max_target_length=5, streaming=True), SIDE)
    made = open_loader(streamed.train, options(max_steps=4, workers=workers))
    seen = [told(b) for step in made for b in step]
    by_row = {example.row: example for example in everything(stored)}
    rows_seen = [row for batch in seen for row in batch[0]]
    assert sorted(rows_seen) == list(range(4, 20))
    for (names, read, labels, _), b in [(batch, b) for batch in seen for b in range(len(batch[0]))]:
        example = by_row[names[b]]
        assert read[b][: len(example.source_ids)] == example.source_ids.tolist()
        assert [i for i in labels[b] if i != IGNORE] == example.input_ids.tolist()
    counts = made.counts
    assert counts["tokens"] == sum(len(by_row[row]) for row in range(4, 20))
    assert counts["cut_sources"] == sum(1 + 7 * i % 29 + 1 > 16 for i in range(4, 20))
    assert counts["cut"] == sum(len(row["target"]) + 1 > 5 for row in rows[4:])


def test_what_does_not_fit_an_encoder_decoder_is_refused(config):
    texts = [{"text": "a"}, {"text": "b"}]
    with pytest.raises(ValueError, match=r"^dataset.path=.*rows are plain text.* columns .*source\+target") as error:
        build(config(texts), SIDE)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"^dataset.path=.*rows are plain text"):
        build(config(texts, streaming=True), SIDE)
    with pytest.raises(ValueError, match=r"^dataset.pack=true: an encoder-decoder reads one source at a time"):
        build(config(pairs(4), pack=True), SIDE)
    with pytest.raises(ValueError, match=r"^dataset.max_target_length=9: only an encoder-decoder has a target"):
        build(config(pairs(4), max_target_length=9), Side(tokenizer=byte_tokenizer()))


def test_ids_keep_to_two_bytes_on_disk(config):
    tokens = build(config(pairs(4)), SIDE).train.file
    assert tokens.ids_T.dtype == tokens.sources_S.dtype == np.uint16
    assert isinstance(tokens.sources_S, np.memmap)
