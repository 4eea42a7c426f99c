"""What a classifier's head answers, as its config tells: the names of the classes, in the order of the outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdlab.models.progress import say
from kdlab.text.task import read_task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kdlab.models.source import Source
    from kdlab.text.task import Task

SHOWN = 8
"""Names that a message shows."""


def tell(config: Any, task: Task, *, pad: int | None) -> None:
    """Write into a model's config what its head answers, and the pad token behind which it does not look."""
    config.num_labels = task.outputs
    config.id2label = dict(enumerate(task.names))
    config.label2id = {name: i for i, name in enumerate(task.names)}
    config.problem_type = "regression" if task.is_regression else "single_label_classification"
    set_pad(config, pad)


def set_pad(config: Any, pad: int | None) -> None:
    """The pad token of a model's config, and of the text part of one that has several."""
    config.pad_token_id = pad
    config.get_text_config().pad_token_id = pad


def refuse_foreign_pad(config: Any, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise ValueError where a model has no embedding for what its rows are padded with."""
    entries, pad = getattr(config.get_text_config(), "vocab_size", None), tokenizer.pad_token_id
    if entries is not None and pad is not None and pad >= entries:
        raise ValueError(
            f"{name}: its tokenizer pads with {tokenizer.pad_token!r} (id {pad}), and its embedding has {entries:,} "
            "entries only; give it a pad token that it has, such as its end of text, in tokenizer_config.json"
        )


def names_of(config: Any, source: Source) -> tuple[str, ...] | None:
    """The names of a classifier's outputs; None where the files hold no classifier. Of an adapter they are in the
    `kdlab_task.json` beside it."""
    if source.base is not None:
        assert source.folder is not None
        task = read_task(source.folder)
        return None if task is None else task.names
    if not any(str(name).endswith("ForSequenceClassification") for name in config.architectures or ()):
        return None
    return tuple(str(config.id2label[i]) for i in sorted(config.id2label))


def refuse_other_names(theirs: tuple[str, ...] | None, task: Task, name: str) -> None:
    """Raise ValueError unless a model has a head, and one of the classes of `task` in their order."""
    if theirs is None:
        raise ValueError(
            f"{name}: writes text and has no head that classifies; train it first (teacher=none loss=hard "
            f"{name.replace('teacher.', 'student.')}) and give the model/ of that run"
        )
    if theirs != task.names:
        raise ValueError(
            f"{name}: its outputs are {shown(theirs)}, those of dataset.labels.column={task.column} are "
            f"{shown(task.names)}; "
            + (
                "give a model of these, or write its names and their order in dataset.labels.names"
                if not task.is_regression
                else "give a model of this number"
            )
        )


def say_other_task(source: Source, task: Task, name: str) -> None:
    """Say where a classifier of the same names was trained on another column, or reads rows by another template."""
    theirs = None if source.folder is None else read_task(source.folder)
    if theirs is not None and theirs.column != task.column:
        say(f"{name}: was trained to decide {theirs.column}, and dataset.labels.column={task.column}")
    if theirs is not None and theirs.template != task.template:
        say(f"{name}: was trained on rows as {theirs.template!r}, and reads them here as {task.template!r}")


def refuse_no_classifier(config: Any, name: str) -> None:
    """Raise ValueError where no classifier can be made of a config."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(
            f"{name}: {kind} is an encoder-decoder model, and dataset.labels teaches decoders and encoders; give one "
            "such as llama, gpt2, qwen, smollm2, bert or roberta"
        )
    if kind not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES and not getattr(config, "auto_map", None):
        raise ValueError(f"{name}: transformers knows no sequence classifier of type {kind}")


def shown(names: tuple[str, ...]) -> str:
    """The first names, for a message."""
    return f"[{', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}]"
