"""Classifiers to test on: a task, batches with one label a row, and folders of tiny models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kdlab.batch import Batch
from kdlab.models.classifier import load_classifier, split_of
from kdlab.models.tiny import byte_tokenizer
from kdlab.models.writing import save_student
from kdlab.text.task import Task

TASK = Task(kind="classification", names=("low", "mid", "high"), column="score", template="{text}", max_length=32)
OTHER = Task(kind="classification", names=("yes", "no"), column="fit", template="{text}", max_length=32)
NUMBER = Task(kind="regression", names=("score",), column="score", template="{text}", max_length=32)
KINDS = ("llama", "gpt2", "bert")
every_kind = pytest.mark.parametrize("kind", KINDS)


def decisions(lengths=(9, 4, 7), *, pad=0, entries=259, more=0):
    """Rows of these lengths, padded on the right to the longest (and `more`); a label each."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.full((len(lengths), max(lengths) + more), pad)
    mask = torch.zeros_like(ids)
    for i, length in enumerate(lengths):
        ids[i, :length] = torch.randint(3, entries, (length,), generator=draw)
        mask[i, :length] = 1
    labels = (torch.arange(len(lengths)) % 3)[:, None]
    return Batch(input_ids_BT=ids, attention_mask_BT=mask, labels_BT=labels, shift=False, decides=True)


def logits(model, batch):
    with torch.no_grad():
        return split_of(model).hidden(batch)[:, 0]


def save_classifier(kind: str, folder: Path, *, task=TASK, seed=0) -> Path:
    """A tiny classifier as a run leaves it."""
    model = load_classifier(f"tiny:{kind}", task=task, fresh_head=True, seed=seed)
    save_student(model, byte_tokenizer(), folder, task)
    return folder


def shaken(model):
    """The model with all that trains in it moved, as training would."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=draw).to(parameter)
    return model.eval()
