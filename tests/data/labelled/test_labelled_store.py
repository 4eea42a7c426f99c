"""Examples with one label: batches, loaders, both tokenizers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from rated_files import rated

from kdlab.data.collate import filler
from kdlab.data.dataset import Side
from kdlab.data.labelled.build import build_labelled
from kdlab.data.labelled.rows import read_labelled
from kdlab.data.labelled.store import LabelledStore
from kdlab.data.loader import StepLoader, heldout_batches, open_loader
from kdlab.data.loader_options import LoaderOptions
from kdlab.models.tiny import byte_tokenizer
from kdlab.rows import IGNORE

IDS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [14, 15]]


def store(labels=(2, 0, 1, 2), **options) -> LabelledStore:
    given = {"labels": np.array(labels), "rows": np.array([3, 4, 6, 9]), "max_length": 16} | options
    return LabelledStore(IDS, **given)


@pytest.fixture
def data(dataset):
    labelled = read_labelled(dataset(rated(40), test=rated(6, start=100), fold=0, folds=4))
    return build_labelled(labelled, Side(tokenizer=byte_tokenizer()))


def test_an_example_is_its_tokens_and_its_label() -> None:
    made = store()
    assert (len(made), made.tokens, made.supervised_tokens, made.lengths.tolist()) == (4, 11, 4, [3, 1, 5, 2])
    example = made[2]
    assert example.input_ids.tolist() == [9, 10, 11, 12, 13]
    assert (example.label, example.row, example.supervised.any()) == (1, 6, False)


def test_a_batch_is_padded_on_the_right_with_one_label_a_row() -> None:
    (batch,) = heldout_batches(store(), batch_size=4, pad_id=77)
    assert batch.decides
    assert not batch.shift
    assert batch.labels_BT.dtype == torch.int64
    assert batch.labels_BT.tolist() == [[1], [2], [2], [0]], "longest first"
    assert batch.input_ids_BT[1].tolist() == [5, 6, 7] + [77] * 5
    assert batch.attention_mask_BT is not None
    assert batch.attention_mask_BT.sum(1).tolist() == [5, 3, 2, 1]
    assert (batch.rows, batch.tokens, batch.example_ids) == (4, 11, (6, 3, 9, 4))


def test_numbers_stay_numbers() -> None:
    made = store(labels=(0.5, -100.0, 3.0, 2.0))
    (batch,) = heldout_batches(made, batch_size=4, pad_id=0)
    assert batch.labels_BT.dtype == torch.float32
    assert batch.labels_BT.tolist() == [[3.0], [0.5], [2.0], [-100.0]]
    assert batch.rows == 4, "-100 is a number like any other"
    empty = filler(made.layout(pad_id=0))
    assert bool(empty.labels_BT.isnan().all())
    assert (empty.rows, empty.tokens, empty.decides) == (0, 0, True)


def test_a_filler_asks_nothing_of_both_sides() -> None:
    made = store(teacher=store(pad_id=9))
    empty = filler(made.layout(pad_id=3))
    assert empty.labels_BT.tolist() == [[IGNORE]]
    assert (empty.rows, empty.tokens) == (0, 0)
    assert empty.teacher is not None
    assert empty.teacher.labels_BT.tolist() == [[IGNORE]]
    assert empty.teacher.input_ids_BT.tolist() == [[9]]


def test_the_content_hash_tells_every_change() -> None:
    hashes = {
        store().content_hash,
        store(labels=(2, 0, 1, 1)).content_hash,
        store(labels=(2.0, 0.0, 1.0, 2.0)).content_hash,
        store(rows=np.array([3, 4, 6, 8])).content_hash,
        store(teacher=store(pad_id=9)).content_hash,
    }
    assert len(hashes) == 5
    assert store().content_hash == store().content_hash


@pytest.mark.parametrize("grouped", [False, True])
def test_training_steps_resume_exactly(data, grouped: bool) -> None:
    options = LoaderOptions(batch_size=4, accumulate=2, seed=3, pad_id=0, group_by_length=grouped)
    whole = [[batch.example_ids for batch in step] for step in open_loader(data.train, options)]
    assert sorted(i for step in whole for ids in step for i in ids) == sorted(data.train.rows.tolist())
    first, rest = StepLoader(data.train, options), StepLoader(data.train, options)
    for _, _step in zip(range(3), first, strict=False):
        pass
    rest.load_state_dict(first.state_dict())
    assert [[b.example_ids for b in step] for step in rest] == whole[3:]


def test_a_checkpoint_of_other_labels_is_refused(data) -> None:
    options = LoaderOptions(batch_size=4, pad_id=0)
    state = StepLoader(data.train, options).state_dict()
    other = LabelledStore(
        [data.train[i].input_ids.tolist() for i in range(len(data.train))],
        labels=(data.train.labels + 1) % 5,
        rows=data.train.rows,
        max_length=data.train.max_length,
    )
    with pytest.raises(ValueError, match="other training data"):
        StepLoader(other, options).load_state_dict(state)


def test_the_parts_are_read_by_their_rows(data) -> None:
    labelled = data.labelled
    assert labelled is not None
    for part, made in (("train", data.train), ("heldout", data.heldout), ("test", data.test)):
        rows = labelled.parts[part]
        assert made.rows.tolist() == rows.numbers.tolist()
        assert made.labels.tolist() == rows.labels.tolist()
        assert byte_tokenizer().decode(made[0].input_ids) == rows.texts[0]
    assert "test: 12 examples" in str(data.verdict)
    assert data.verdict.as_dict()["train"]["supervised"] == len(data.train)


def test_a_teacher_with_another_tokenizer_reads_the_same_rows(dataset) -> None:
    """Its beginning-of-text token comes once; what is cut of its longer text is counted."""
    from tokenizers import processors

    theirs = byte_tokenizer()
    theirs.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 1)]
    )
    labelled = read_labelled(dataset(rated(30), fold=0, folds=3, max_length=48))
    made = build_labelled(labelled, Side(tokenizer=byte_tokenizer()), Side(tokenizer=theirs))
    batch = next(iter(heldout_batches(made.heldout, batch_size=3, pad_id=0)))
    assert batch.teacher is not None
    assert torch.equal(batch.teacher.labels_BT, batch.labels_BT)
    assert batch.teacher.example_ids == batch.example_ids
    assert (batch.teacher.input_ids_BT == 1).sum(1).tolist() == [1, 1, 1]
    assert (batch.input_ids_BT == 1).sum() == 0
    assert made.train.lengths.max() <= 48
    part = made.verdict.train
    assert part is not None
    assert part.teacher is not None
    assert part.cut > 0
    assert part.teacher.cut_source_tokens >= part.cut_tokens
    assert "dataset.max_length cut" in str(made.verdict)


def test_a_template_longer_than_what_is_read_is_refused(dataset) -> None:
    labelled = read_labelled(dataset(rated(30), fold=0, folds=3, max_length=16, template="A long word: {response}."))
    with pytest.raises(ValueError, match=r"^dataset\.max_length=14: the template takes as many tokens by itself"):
        build_labelled(replace(labelled, task=replace(labelled.task, max_length=14)), Side(tokenizer=byte_tokenizer()))
