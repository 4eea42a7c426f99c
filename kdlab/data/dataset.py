"""A dataset from config to memory-mapped token ids: load rows, detect their format, render, tokenise, split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from kdlab.data.labels import FOLD_KINDS, LabelsConfig
from kdlab.text.formats import FORMATS
from kdlab.text.prompts import PromptConfig, called

if TYPE_CHECKING:
    from kdlab.data.labelled.rows import Labelled
    from kdlab.data.labelled.store import LabelledStore
    from kdlab.data.readers import Readers
    from kdlab.data.sources import Source
    from kdlab.data.store import TokenStore
    from kdlab.data.stream import TokenStream
    from kdlab.data.verdict import Verdict

UNSET = "???"
LEAST_LENGTH = 8


@dataclass(kw_only=True)
class DatasetConfig:
    """Which text to train on, and how it becomes examples.

    `path` is "python_docs" (bundled), a local file, glob or folder of json/jsonl/csv/tsv/parquet/txt, or a hub id, with
    `subset`, `split` and `revision`. `num_samples` reads the first rows only (of rows with labels: so many, drawn by
    `split_seed`). `format` is "auto" or a name of `text.formats.FORMATS`; `template` a jinja file that replaces the
    student's chat template. A teacher with another tokenizer keeps its own template; the student's examples decide
    which bytes both read.

    `supervise` is "response" (what the assistant says and its end token) or "all"; plain text is supervised throughout
    and ends with the tokenizer's EOS.
    Plain text longer than `max_length` tokens becomes several examples; a conversation is cut at the end, and counted.

    Held out is `heldout_path`, or `heldout_split` of `path`, or a part of the rows: a share where `heldout` < 1, else
    a count (see `data.split`). Which rows these are depends on their content and on `split_seed` alone, not on the
    training `seed`: runs that differ in `seed` are judged by the same examples. `streaming` never holds the whole: it
    needs `trainer.max_steps`, and takes the first `heldout` rows, a count, as held out where no split or path is
    given.

    For encoder-decoder models the encoder reads at most `max_length` tokens of the source and the decoder writes at
    most `max_target_length` (None: `max_length`). `prefix` is put before the source ("summarize: "), in place of the
    instruction that a format brings itself (null). `source_language` and `target_language` name the two sides of
    `translation` rows (null: in the order in which they are written).

    `pack` puts whole examples together into rows of `max_length` without letting them see each other;
    `group_by_length` batches examples of like length. Tokens are kept in `cache_dir`, else $KDLAB_CACHE, else
    ~/.cache/kdlab.

    With `labels` the rows are decided about (see `LabelsConfig`): one class or number a row. `fold` of `folds` is then
    held out (None: `heldout` says what is), chosen by `fold_by`: "stratified_group" (each fold has the classes' shares,
    and no value of the column `group` is in two folds; None: the prompt-like column, else the text), "group",
    "stratified" or "plain". `test_split` or `test_path` is read only to judge by, at the end.
    """

    path: str = UNSET
    subset: str | None = None
    revision: str | None = None
    split: str = "train"
    heldout_split: str | None = None
    heldout_path: str | None = None
    heldout: float = 0.1
    split_seed: int = 0
    format: str = "auto"
    supervise: str = "response"
    template: str | None = None
    max_length: int = 512
    max_target_length: int | None = None
    prefix: str | None = None
    source_language: str | None = None
    target_language: str | None = None
    pack: bool = False
    group_by_length: bool = False
    num_samples: int | None = None
    streaming: bool = False
    labels: LabelsConfig | None = None
    fold: int | None = None
    folds: int = 10
    fold_by: str = "stratified_group"
    group: str | None = None
    test_split: str | None = None
    test_path: str | None = None
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        if self.format not in ("auto", *FORMATS):
            raise ValueError(f"dataset.format={self.format}: must be auto or one of {', '.join(FORMATS)}")
        if self.supervise not in ("response", "all"):
            raise ValueError(f"dataset.supervise={self.supervise}: must be response or all")
        if self.max_length < LEAST_LENGTH:
            raise ValueError(f"dataset.max_length={self.max_length}: must be >= {LEAST_LENGTH} tokens")
        if self.max_target_length is not None and self.max_target_length < 1:
            raise ValueError(f"dataset.max_target_length={self.max_target_length}: must be null or at least 1 token")
        if (self.source_language is None) != (self.target_language is None):
            raise ValueError("dataset.source_language and dataset.target_language: give both, or neither")
        if self.num_samples is not None and self.num_samples < 1:
            raise ValueError(f"dataset.num_samples={self.num_samples}: must be >= 1, or null for all rows")
        if self.heldout_path is not None and self.heldout_split is not None:
            raise ValueError("dataset.heldout_path and dataset.heldout_split: give one of the two")
        if not (0 < self.heldout < 1 or (self.heldout >= 1 and self.heldout == int(self.heldout))):
            raise ValueError(f"dataset.heldout={self.heldout}: must be a share between 0 and 1, or a whole count >= 1")
        if self.split_seed < 0:
            raise ValueError(f"dataset.split_seed={self.split_seed}: must be >= 0")
        if self.fold_by not in FOLD_KINDS:
            raise ValueError(f"dataset.fold_by={self.fold_by}: must be one of {', '.join(FOLD_KINDS)}")
        if self.folds < 2:
            raise ValueError(f"dataset.folds={self.folds}: must be at least 2")
        if self.fold is not None and not 0 <= self.fold < self.folds:
            raise ValueError(
                f"dataset.fold={self.fold}: must be from 0 to {self.folds - 1}, as dataset.folds={self.folds} says"
            )
        if self.test_path is not None and self.test_split is not None:
            raise ValueError("dataset.test_path and dataset.test_split: give one of the two")
        if self.pack and self.group_by_length:
            raise ValueError(
                "dataset.group_by_length=true: packed rows are of one length already; drop it or dataset.pack"
            )
        if self.streaming and self.heldout < 1 and self.heldout_split is None and self.heldout_path is None:
            raise ValueError(
                f"dataset.heldout={self.heldout}: a stream has no known size to take a share of; give a count of rows "
                "(dataset.heldout=500), dataset.heldout_split or dataset.heldout_path"
            )


@dataclass(frozen=True, kw_only=True)
class Data:
    """Examples to train on and to judge by, and what was made of the rows. `train` is a `TokenStream` if streamed.

    Of rows with labels all are `LabelledStore`; `test` is what is judged by at the end alone, `labelled` the classes
    and the folds.
    """

    train: TokenStore | TokenStream | LabelledStore
    heldout: TokenStore | LabelledStore
    verdict: Verdict
    test: LabelledStore | None = None
    labelled: Labelled | None = None


@dataclass(frozen=True, kw_only=True)
class Side:
    """Who reads the text: a tokenizer, whether its model is an encoder-decoder (`seq2seq`), and how many ids its model
    can look up (`entries`; None: all that the tokenizer has)."""

    tokenizer: Any
    seq2seq: bool = False
    entries: int | None = None

    @property
    def pad_id(self) -> int:
        """The pad token, else EOS: the first that the model can look up, else 0. Padding is masked, but read."""
        known = [i for i in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id) if i is not None]
        return next((int(i) for i in known if self.entries is None or i < self.entries), 0)


def refuse_prompt(config: DatasetConfig, prompt: PromptConfig) -> None:
    """Raise ValueError where a teacher's own prompt does not go with how the dataset is read."""
    refused = {"pack=true": config.pack, "supervise=all": config.supervise == "all"}
    why = {
        "pack=true": "the examples of both would not end at the same places; use dataset.group_by_length=true",
        "supervise=all": "only the answers are the same; use dataset.supervise=response",
    }
    for option, on in refused.items():
        if on and prompt.privileged:
            raise ValueError(
                f"dataset.{option}: {called(prompt.name)} gives the teacher a prompt of its own, and {why[option]}"
            )


def build(
    config: DatasetConfig, student: Side, teacher: Side | None = None, *, prompt: PromptConfig | None = None
) -> Data:
    """Load, understand, tokenise and split a dataset. With a `teacher` that has a tokenizer of its own, or a `prompt`
    that gives it another question, every example comes as both read it.

    Raises FileNotFoundError for a path that is not there, ValueError for rows that are broken (with file and line),
    of no known format, or too few, each naming the option.
    """
    from kdlab.data.readers import open_readers

    prompt = PromptConfig() if prompt is None else prompt
    readers = open_readers(config, student, teacher, prompt)
    data = _streamed(config, readers) if config.streaming else _whole(config, readers)
    if prompt.privileged:
        data.verdict.prompt, data.verdict.gives_answer = prompt.name, prompt.gives_answer
    return data


def _source(config: DatasetConfig) -> Source:
    from kdlab.data.sources import open_source

    return open_source(
        config.path, subset=config.subset, split=config.split, revision=config.revision, streaming=config.streaming
    )


def _heldout_source(config: DatasetConfig) -> Source | None:
    from kdlab.data.sources import open_source

    if config.heldout_path is not None:
        return open_source(config.heldout_path, option="dataset.heldout_path")
    if config.heldout_split is not None:
        return open_source(
            config.path,
            subset=config.subset,
            split=config.heldout_split,
            revision=config.revision,
            split_option="dataset.heldout_split",
        )
    return None


def _whole(config: DatasetConfig, readers: Readers) -> Data:
    import numpy as np

    from kdlab.data import split
    from kdlab.data.tokens import tokenised_by_both
    from kdlab.data.verdict import Verdict

    given = _heldout_source(config)
    source = _source(config)
    tokens, theirs, cached = tokenised_by_both(source, readers, config, num_samples=config.num_samples)
    examples = partial(split.examples, max_length=config.max_length, max_target_length=config.max_target_length)
    if given is not None:
        other, others, _ = tokenised_by_both(given, readers, config, num_samples=None)
        shared = np.isin(tokens.hashes, other.hashes)
        train, train_part = examples(tokens, ~shared, teacher=theirs)
        if shared.any():
            train_part.skipped["that are also held out"] = int(shared.sum())
        everything = np.ones(len(other), np.bool_)
        heldout, heldout_part = examples(other, everything, teacher=others)
        how, heldout_reading = config.heldout_path or f"split {config.heldout_split}", other.reading
    else:
        held, windows, how = split.hold_out(
            tokens, heldout=config.heldout, seed=config.split_seed, max_length=config.max_length
        )
        everything = np.ones(len(tokens), np.bool_)
        sides = [(~held, None), (held, None)] if windows is None else [(everything, ~windows), (everything, windows)]
        (train, train_part), (heldout, heldout_part) = (
            examples(tokens, chosen, keep=keep, teacher=theirs) for chosen, keep in sides
        )
        heldout_reading = None
    verdict = Verdict(
        reading=tokens.reading,
        heldout_reading=heldout_reading,
        split=how,
        duplicates=split.repeats(tokens),
        train=train_part,
        heldout=heldout_part,
        cached=cached,
    )
    for name, store, typed in (("train on", train, source.typed), ("hold out", heldout, (given or source).typed)):
        if not len(store):
            raise ValueError(f"{typed}: no example left to {name}\n{verdict}")
    return Data(train=train, heldout=heldout, verdict=verdict)


def _streamed(config: DatasetConfig, readers: Readers) -> Data:
    from kdlab.data.stream import open_stream

    return open_stream(config, readers, _source(config), _heldout_source(config))
