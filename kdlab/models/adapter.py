"""A folder that holds a peft adapter and no model: its base model is found, read, and the adapter put upon it.

resolve("multirun/teacher/default/adapter").base  # where the base model comes from
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.models.quantization import prepare, saved_method

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from kdlab.models.source import Source

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
CLASSIFIES = "SEQ_CLS"


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter without its model."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def base_of(folder: Path, name: str) -> tuple[str, str | None]:
    """The path and revision of the model that an adapter belongs to. Raises ValueError where it names none or has no
    safetensors weights."""
    told = adapter_config(folder, name)
    base = told.get("base_model_name_or_path")
    beside = folder.parent / "model"
    remedy = f"give the merged model, {beside}" if (beside / "config.json").is_file() else "merge it with its model"
    if not base:
        raise ValueError(f"{name}: an adapter that names no base model ({CONFIG}); {remedy}")
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"{name}: an adapter without {WEIGHTS}; {remedy}")
    revision = told.get("revision")
    return str(base), None if revision is None else str(revision)


def adapter_config(folder: Path, name: str) -> dict[str, Any]:
    """What peft wrote about an adapter."""
    try:
        told = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{name}: its {CONFIG} is not valid JSON ({error})") from error
    if not isinstance(told, dict):
        raise ValueError(f"{name}: its {CONFIG} is not valid (no object)")
    return told


def refuse_other_kind(source: Source, name: str, *, classifies: bool) -> None:
    """Raise ValueError where an adapter is of a classifier and text is to be written, or the other way round."""
    if source.base is None or source.folder is None:
        return
    is_one = adapter_config(source.folder, name).get("task_type") == CLASSIFIES
    if is_one and not classifies:
        raise ValueError(f"{name}: an adapter of a classifier, which writes no text; it is read with dataset.labels")
    if classifies and not is_one:
        raise ValueError(f"{name}: an adapter of a model that writes text; merge the two, and give the merged model")


def attach(model: PreTrainedModel, source: Source, name: str) -> PreTrainedModel:
    """The model with the adapter of `source` upon it: merged into plain weights, a frozen peft wrapper over packed
    ones.

    Raises ValueError where the adapter does not fit the model.
    """
    import peft
    from safetensors.torch import load_file

    assert source.folder is not None
    assert source.base is not None
    packed = saved_method(model.config) is not None
    try:
        adapted = peft.PeftModel.from_pretrained(prepare(model) if packed else model, str(source.folder))
    except (RuntimeError, ValueError, KeyError) as error:
        why = f"lacks {error}" if isinstance(error, KeyError) else str(error).strip().splitlines()[0]
        raise ValueError(f"{name}: does not fit its base model, {source.base.description} ({why})") from error
    stored = load_file(source.folder / WEIGHTS).keys()
    taken = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False).keys()
    if stored != taken:
        odd = sorted(stored ^ taken)[0]
        raise ValueError(f"{name}: does not fit its base model, {source.base.description} (one of them lacks {odd})")
    model.config._name_or_path = str(source.folder)  # where both are read again
    if packed:
        return adapted.eval().requires_grad_(False)
    merged: PreTrainedModel = adapted.merge_and_unload()
    return merged.requires_grad_(True)
