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
    """Copy every weight in. Raises RuntimeError unless names and shapes agree exactly."""
    model.load_state_dict(state, strict=True)
    model.tie_weights()
