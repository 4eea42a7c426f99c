"""How the weights of a frozen model are held in memory."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PACKAGES = {"bnb8": "bitsandbytes", "nf4": "bitsandbytes", "torchao_int8": "torchao"}


@dataclass(kw_only=True)
class QuantizationConfig:
    """`kind`: none, bnb8 (LLM.int8, Dettmers et al., 2022), nf4 (QLoRA's 4-bit, Dettmers et al., 2023), torchao_int8
    (weight-only). On a CPU they save memory, not time: bfloat16 is as fast or faster."""

    kind: str = "none"

    def __post_init__(self) -> None:
        if self.kind not in ("???", "none", *PACKAGES):
            raise ValueError(f"quantization.kind={self.kind}: must be one of none, {', '.join(PACKAGES)}")


def transformers_config(config: QuantizationConfig, dtype: torch.dtype) -> Any:
    """What `from_pretrained(quantization_config=...)` takes; None for kind "none".

    Raises ValueError naming the extra when its package is not installed.
    """
    if config.kind == "none":
        return None
    package = PACKAGES[config.kind]
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"quantization.kind={config.kind}: needs {package}; pip install 'kdlab[quant]'")
    import transformers

    if config.kind == "torchao_int8":
        from torchao.quantization import Int8WeightOnlyConfig

        return transformers.TorchAoConfig(Int8WeightOnlyConfig())
    # int8 on a CPU logs a line for every matrix product: hundreds a forward pass
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    if config.kind == "bnb8":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, bnb_4bit_use_double_quant=True
    )
