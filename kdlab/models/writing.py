"""Write a student so that plain `from_pretrained` and `pipeline` read it, with or without LoRA."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.models.fresh import fill, unfilled
from kdlab.models.progress import say
from kdlab.models.quantization import saved_method

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_student(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write weights (safetensors), config, generation config, tokenizer and chat template to `folder`.

    Adapters are added into a copy of the weights: `model` itself is left bit for bit as it was, so training may go on.
    Where the weights under them are packed, that copy is the checkpoint read again, plain, in `student.dtype`.
    """
    plain = merged(model) if is_adapted(model) else model
    used_cache = plain.config.use_cache
    plain.config.use_cache = True  # training may have switched it off; generation wants it
    try:
        plain.save_pretrained(folder)
    finally:
        plain.config.use_cache = used_cache
    tokenizer.save_pretrained(folder)


def save_adapter(model: PreTrainedModel, folder: Path) -> None:
    """Write the LoRA adapter alone, as peft reads it. Call it only where `is_adapted(model)`."""
    model.save_pretrained(folder, save_embedding_layers=False)  # frozen; peft would ask the hub whether they are


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
    plain.generation_config = copy.deepcopy(base.generation_config)
    return plain


def _plain_copy(base: PreTrainedModel) -> PreTrainedModel:
    """The model under the adapters, without them."""
    state: dict[str, Tensor] = {
        name.replace(".base_layer.", "."): weight.detach()
        for name, weight in base.state_dict().items()
        if not any(part.startswith("lora_") for part in name.split("."))
    }
    plain = unfilled(type(base), copy.deepcopy(base.config), base.dtype)
    fill(plain, state)
    return plain


def _read_again(base: PreTrainedModel) -> PreTrainedModel:
    """The checkpoint whose packed weights `base` holds, plain, on the CPU, in the number format it was asked for."""
    path, dtype = base.config._name_or_path, base.config.dtype
    say(
        f"model/: the adapters are added to {path}, read again in {str(dtype).removeprefix('torch.')}; the figures of "
        "this run are of adapter/ over the packed weights"
    )
    commit = getattr(base.config, "_commit_hash", None)
    plain: PreTrainedModel = type(base).from_pretrained(path, revision=commit, dtype=dtype, use_safetensors=True)
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
