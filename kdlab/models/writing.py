"""Write a student so that plain `from_pretrained` and `pipeline` read it, with or without LoRA."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.models.fresh import fill, unfilled
from kdlab.models.progress import quiet_report, say
from kdlab.models.quantization import saved_method

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from kdlab.text.task import Task

TRAINED = "modules_to_save"
"""In the names of what peft trains whole, such as a classifier's head."""


def save_student(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, task: Task | None = None
) -> None:
    """Write weights (safetensors), config, generation config, tokenizer and chat template to `folder`; of a classifier
    its `task` too.

    Adapters are added into a copy of the weights: `model` itself is left bit for bit as it was, so training may go on.
    Where the weights under them are packed, that copy is the checkpoint read again, plain, in `student.dtype`.
    """
    plain = merged(model) if is_adapted(model) else model
    used_cache = getattr(plain.config, "use_cache", True)  # some encoders have no such field
    if not used_cache:
        plain.config.use_cache = True  # training may have switched it off; generation wants it
    try:
        plain.save_pretrained(folder)
    finally:
        if not used_cache:
            plain.config.use_cache = used_cache
    tokenizer.save_pretrained(folder)
    if task is not None:
        task.save(folder)


def save_adapter(
    model: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase | None = None, task: Task | None = None
) -> None:
    """Write the LoRA adapter alone, as peft reads it; of a classifier its head, its `task`, and the tokenizer, whose
    pad token it decides in front of. Call it only where `is_adapted(model)`."""
    model.save_pretrained(folder, save_embedding_layers=False)  # frozen; peft would ask the hub whether they are
    if task is not None:
        task.save(folder)
    if task is not None and tokenizer is not None:
        tokenizer.save_pretrained(folder)


def is_adapted(model: PreTrainedModel) -> bool:
    """Whether `model` is a peft wrapper."""
    return hasattr(model, "get_base_model")


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """A plain model with every LoRA product added to its weight: `W + (alpha / r) * B @ A` (Hu et al., 2021)."""
    base = model.get_base_model()
    plain = _plain_copy(base) if saved_method(base.config) is None else _read_again(base)
    weights = plain.state_dict()
    for name, module, delta in _deltas(base):
        weight: Tensor = weights[f"{name}.weight"]
        if _is_transposed(plain.get_submodule(name), module):
            delta = delta.T
        weight.copy_((weight.to(delta.dtype) + delta.to(weight.device)).to(weight.dtype))
    if getattr(base, "generation_config", None) is not None:
        plain.generation_config = copy.deepcopy(base.generation_config)
    return plain


def _plain_copy(base: PreTrainedModel) -> PreTrainedModel:
    """The model under the adapters, without them; of a classifier with the head that was trained."""
    state: dict[str, Tensor] = {
        plain: weight.detach() for name, weight in base.state_dict().items() if (plain := _plain_name(name)) is not None
    }
    plain_model = unfilled(type(base), copy.deepcopy(base.config), base.dtype)
    fill(plain_model, state)
    return plain_model


def _plain_name(name: str) -> str | None:
    """What a weight of an adapted model is called without adapters; None for one that such a model has not."""
    parts = name.split(".")
    if "original_module" in parts or any(part.startswith("lora_") for part in parts):
        return None
    if TRAINED in parts:  # head.modules_to_save.<name of the adapter>.weight
        place = parts.index(TRAINED)
        del parts[place : place + 2]
    return ".".join(part for part in parts if part != "base_layer")


def _read_again(base: PreTrainedModel) -> PreTrainedModel:
    """The checkpoint whose packed weights `base` holds, plain, on the CPU, in the number format it was asked for; of a
    classifier with the head that was trained."""
    path, dtype = base.config._name_or_path, base.config.dtype
    say(
        f"model/: the adapters are added to {path}, read again in {str(dtype).removeprefix('torch.')}; the figures of "
        "this run are of adapter/ over the packed weights"
    )
    commit = getattr(base.config, "_commit_hash", None)
    told: dict[str, Any] = {"revision": commit, "dtype": dtype, "use_safetensors": True}
    head = {_plain_name(name): weight for name, weight in base.state_dict().items() if TRAINED in name.split(".")}
    if not head:
        plain: PreTrainedModel = type(base).from_pretrained(path, **told)
        return plain
    config = copy.deepcopy(base.config)
    del config.quantization_config
    with quiet_report():
        plain = type(base).from_pretrained(path, config=config, ignore_mismatched_sizes=True, **told)
    weights = plain.state_dict()
    for name, weight in head.items():
        weights[name].copy_(weight.detach().to(weights[name]))
    return plain


def _deltas(base: PreTrainedModel) -> Iterator[tuple[str, Any, Tensor]]:
    """The name of each adapted layer, the layer, and what its adapters add to the weight."""
    from peft.tuners.lora import LoraLayer

    for name, module in base.named_modules():
        if isinstance(module, LoraLayer):
            for adapter in module.active_adapters:
                yield name, module, module.get_delta_weight(adapter).detach()


def _is_transposed(plain: nn.Module, adapted: Any) -> bool:
    """Whether a matrix that is kept transposed (GPT-2's `Conv1D`) was turned when it was packed."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(plain, Conv1D) and not adapted.fan_in_fan_out
