"""A model of a known class and config whose weights are not drawn, because all of them are about to be copied in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def unfilled(model_class: type[PreTrainedModel], config: Any, dtype: torch.dtype) -> PreTrainedModel:
    """The model on the CPU, in eval mode; its parameters hold whatever was in memory."""
    from transformers.initialization import no_init_weights

    config.dtype = dtype
    with no_init_weights():
        return model_class(config).to(dtype).eval()


def fill(model: PreTrainedModel, state: dict[str, Tensor]) -> None:
    """Copy every weight in. Raises RuntimeError unless names and shapes agree exactly.

    Weights stay tied only where `state` holds one tensor for all their names: FLAN-T5's config calls its head tied to
    its embedding, and its files have both.
    """
    model.tie_weights()
    for owner, *others in _tied(model):
        for name in others:
            if owner in state and name in state and not _one(state[owner], state[name]):
                _untie(model, name)
    model.load_state_dict(state, strict=True)


def _tied(model: PreTrainedModel) -> list[list[str]]:
    """The names of each parameter that has several."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [several for several in names.values() if len(several) > 1]


def _one(a: Tensor, b: Tensor) -> bool:
    return a.data_ptr() == b.data_ptr() or torch.equal(a, b)


def _untie(model: PreTrainedModel, name: str) -> None:
    """Give the module of `name` a parameter of its own, and let saving know."""
    owner, _, attribute = name.rpartition(".")
    shared = model.get_parameter(name)
    model.get_submodule(owner).register_parameter(attribute, torch.nn.Parameter(torch.empty_like(shared)))
    model.all_tied_weights_keys.pop(name, None)
