"""Write a student so that plain `from_pretrained` and `pipeline` read it, with or without LoRA."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

from kdlab.models.fresh import fill, unfilled

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_student(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write weights (safetensors), config, generation config, tokenizer and chat template to `folder`.

    Adapters are added into a copy of the weights: `model` itself is left bit for bit as it was, so training may go on.
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
    model.save_pretrained(folder)


def is_adapted(model: PreTrainedModel) -> bool:
    """Whether `model` is a peft wrapper."""
    return hasattr(model, "get_base_model")


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """A plain model with every LoRA product added to its weight: `W + (alpha / r) * B @ A` (Hu et al., 2021)."""
    from peft.tuners.lora import LoraLayer

    base = model.get_base_model()
    state: dict[str, Tensor] = {
        name.replace(".base_layer.", "."): weight
        for name, weight in base.state_dict().items()
        if not any(part.startswith("lora_") for part in name.split("."))
    }
    for name, module in base.named_modules():
        if isinstance(module, LoraLayer):
            for adapter in module.active_adapters:
                weight = state[f"{name}.weight"]
                state[f"{name}.weight"] = weight + module.get_delta_weight(adapter).to(weight.dtype)
    plain = unfilled(type(base), copy.deepcopy(base.config), base.dtype)
    fill(plain, {name: weight.detach() for name, weight in state.items()})
    plain.generation_config = copy.deepcopy(base.generation_config)
    return plain
