"""What lies beside a variant's weights: its config, its tokenizer, its task, and which tokens pad and end a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.durable import read_json
from kdlab.models.loading import load_config, load_tokenizer
from kdlab.models.source import Source
from kdlab.text.task import CLASSIFICATION, REGRESSION, Task, read_task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FOREIGN_LENGTH = 512
"""Tokens that a classifier reads at most which has no kdlab_task.json to tell it."""


def read_beside(folder: Path, *, option: str) -> tuple[Any, PreTrainedTokenizerBase, Task | None]:
    """The config, tokenizer and task in a folder that an `option` gave. Raises ValueError where one is missing or
    damaged."""
    source = Source(kind="folder", location=str(folder), folder=folder, description=f"folder {folder}")
    config = load_config(source, f"{option}={folder}")
    return config, load_tokenizer(str(folder), option=option), read_task(folder)


def foreign_task(config: Any) -> Task:
    """The task of a classifier that kdlab did not train: one text, and the names that its config has."""
    names = tuple(str(config.id2label[i]) for i in sorted(config.id2label))
    length = getattr(config, "max_position_embeddings", None) or FOREIGN_LENGTH
    return Task(
        kind=CLASSIFICATION if len(names) > 1 else REGRESSION,
        names=names,
        column="label",
        template="{text}",
        max_length=min(FOREIGN_LENGTH, length),
    )


def pad_of(config: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that rows are padded with: the one behind which a classifier does not look."""
    for pad in (config.get_text_config().pad_token_id, tokenizer.pad_token_id):
        if pad is not None:
            return int(pad)
    return 0


def ends_of(folder: Path | None, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens that end a text: the tokenizer's, and those of a generation_config.json beside it."""
    told = None if folder is None else read_json(folder / "generation_config.json")
    ends = told.get("eos_token_id") if isinstance(told, dict) else None
    found = ends if isinstance(ends, list) else [ends]
    return frozenset(int(end) for end in (*found, tokenizer.eos_token_id) if end is not None)
