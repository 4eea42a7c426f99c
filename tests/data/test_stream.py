from __future__ import annotations

import json

import datasets
import pytest
import torch

from kdlab.data import stream as stream_module
from kdlab.data.dataset import DatasetConfig, Side, build
from kdlab.data.loader import StepLoader, open_loader
from kdlab.data.loader_options import LoaderOptions
from kdlab.data.stream import TokenStream
from kdlab.models.tiny import byte_tokenizer

ROWS = [{"text": f"{i} " + "word " * (i % 7)} for i in range(60)] + [{"text": ""}, {"text": "x"}]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(stream_module, "BLOCK_ROWS", 16)


@pytest.fixture(params=["local", "hub"])
def data(request, tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    if request.param == "hub":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        whole = datasets.Dataset.from_list(ROWS).to_iterable_dataset(num_shards=3)
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, **options: whole)
    config = DatasetConfig(
        path=str(path) if request.param == "local" else "me/data",
        streaming=True,
        heldout=10,
        max_length=16,
        cache_dir=str(tmp_path / "cache"),
    )
    return build(config, Side(tokenizer=byte_tokenizer()))


def loader(data, **changes):
    options = {"batch_size": 2, "accumulate": 2, "pad_id": 0, "max_steps": 60} | changes
    return open_loader(data.train, LoaderOptions(**options))


def key(step) -> list[list[list[int]]]:
    return [batch.input_ids_BT.tolist() for batch in step]


def texts(steps) -> list[str]:
    """What the rows of unpacked steps say."""
    decode = byte_tokenizer().decode
    said = []
    for step in steps:
        for batch in step:
            for ids, mask in zip(batch.input_ids_BT, batch.attention_mask_BT, strict=True):
                said.append(decode(ids[mask.bool()]))
    return said


def test_the_first_rows_are_held_out_and_the_rest_flows(data):
    assert isinstance(data.train, TokenStream)
    decode = byte_tokenizer().decode
    held = {decode(data.heldout[i].input_ids) for i in range(len(data.heldout))}
    made = loader(data)
    said = []
    for step in made:
        said += texts([step])
        if made.state_dict()["state"]["epoch"] == 1:
            break
    expected = []
    for row in [*ROWS[10:60], ROWS[-1]]:
        tokens = [*row["text"], "<eos>"]
        windows = [tokens[i : i + 16] for i in range(0, len(tokens), 16)]
        if len(windows[-1]) == 1 and len(windows) > 1:
            windows[-2:] = [windows[-2][:-1], windows[-2][-1:] + windows[-1]]
        expected += ["".join(window) for window in windows]
    assert sorted(said) == sorted(expected)
    assert not {text for text in held if text[0].isdigit()} & set(said)  # the first window of each
    assert made.counts["rows"] == 52
    assert made.counts["skipped: text is empty"] == 1
    assert made.counts["examples"] == len(expected)
    assert "streamed" in str(data.verdict)
    assert data.verdict.as_dict()["train"] is None


@pytest.mark.parametrize("kind", [{}, {"pack": True}, {"group_by_length": True}], ids=str)
@pytest.mark.parametrize("workers", [0, 1])
def test_resuming_gives_the_steps_that_would_have_come(data, kind, workers):
    expected = [key(step) for step in loader(data, **kind)]
    assert len(expected) == 60
    for stop in (1, 7, 24, 59) if not workers else (7,):
        broken = loader(data, workers=workers, **kind)
        seen = []
        for step in broken:
            seen.append(key(step))
            if len(seen) == stop:
                break
        state = json.loads(json.dumps(broken.state_dict()))
        del broken
        resumed = loader(data, workers=workers, **kind)
        resumed.load_state_dict(state)
        assert seen + [key(step) for step in resumed] == expected


def test_a_stream_that_ends_begins_again_in_another_order(data):
    made, epochs = loader(data, max_steps=200), {}
    for step in made:
        epochs.setdefault(made.state_dict()["state"]["epoch"], []).append(key(step))
    assert len(epochs) > 2
    assert epochs[1][:3] != epochs[2][:3]


def test_ranks_share_each_step(data):
    one = list(loader(data, batch_size=4, accumulate=1, max_steps=12))
    two = [list(loader(data, batch_size=2, accumulate=1, rank=r, world=2, max_steps=12)) for r in range(2)]
    for step, *parts in zip(one, *two, strict=True):
        assert sorted(texts([step])) == sorted(texts(parts))


def test_a_stream_needs_max_steps_and_has_them_as_length(data):
    with pytest.raises(ValueError, match=r"trainer.max_steps is not set: dataset.streaming"):
        loader(data, max_steps=None)
    assert len(loader(data, max_steps=7)) == 7


def test_a_place_in_another_stream_is_refused(data):
    with pytest.raises(ValueError, match="made with another stream"):
        loader(data, seed=3).load_state_dict(loader(data).state_dict())


def test_rows_that_are_held_out_are_left_out_of_the_stream(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"text {i % 20}"}) + "\n" for i in range(60)))
    config = DatasetConfig(path=str(path), streaming=True, heldout=4, max_length=16, cache_dir=str(tmp_path))
    data = build(config, Side(tokenizer=byte_tokenizer()))
    made = loader(data, max_steps=24)
    assert {int(text.removesuffix("<eos>").split()[1]) for text in texts(made)} == set(range(4, 20))
    assert made.counts["skipped: that are also held out"] == 2 * 8  # repeats of 4 rows, twice, in two epochs


@pytest.mark.parametrize("pack", [False, True])
def test_batches_name_the_rows_they_hold(data, pack):
    made = loader(data, pack=pack, max_steps=1)
    assert made.counts == {}
    for batch in next(iter(made)):
        assert len(batch.example_ids) >= len(batch.input_ids_BT)
        decode, named = byte_tokenizer().decode, iter(batch.example_ids)
        for b, ids in enumerate(batch.input_ids_BT):
            if pack:
                begins = (batch.position_ids_BT[b] == 0).nonzero().flatten().tolist()
                parts = [ids[i:j] for i, j in zip(begins, [*begins[1:], len(ids)], strict=True) if ids[i]]
            else:
                parts = [ids[batch.attention_mask_BT[b].bool()]]
            for part in parts:
                assert decode(part[part > 0]) in ROWS[next(named)]["text"] + "<eos>"
    assert made.counts["rows"] == 16, "the block in work counts"


def test_a_fault_of_a_held_out_stream_names_its_own_option(tmp_path):
    for name, line in (("rows", '{"text": "good"}'), ("held", '{"text": ""}')):
        (tmp_path / f"{name}.jsonl").write_text(f"{line}\n" * 3)
    config = DatasetConfig(
        path=str(tmp_path / "rows.jsonl"),
        heldout_path=str(tmp_path / "held.jsonl"),
        streaming=True,
        cache_dir=str(tmp_path),
    )
    with pytest.raises(ValueError, match=r"^dataset.heldout_path=.*held.jsonl: no row is usable"):
        build(config, Side(tokenizer=byte_tokenizer()))


def test_a_stream_without_a_usable_row_is_an_error(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "first"}\n' + '{"text": ""}\n' * 40)
    config = DatasetConfig(path=str(path), streaming=True, heldout=1, max_length=16, cache_dir=str(tmp_path))
    data = build(config, Side(tokenizer=byte_tokenizer()))
    with pytest.raises(ValueError, match=r"no row of the stream can be trained on"):
        next(iter(loader(data)))


def test_stored_data_gets_the_ordinary_loader(tmp_path):
    config = DatasetConfig(path="python_docs", max_length=64, cache_dir=str(tmp_path))
    data = build(config, Side(tokenizer=byte_tokenizer()))
    made = open_loader(data.train, LoaderOptions(batch_size=2, pad_id=0))
    assert isinstance(made, StepLoader)
    assert next(iter(made))[0].input_ids_BT.dtype == torch.int64
