"""Bytes of what training holds besides activations: packed weights, gradients and the optimiser's state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from kdlab.models.classifier import head_names, is_classifier
from kdlab.models.size import measure
from kdlab.preflight.live import head_of, inner
from kdlab.training.optimizers import SGD, Adafactor, AdamW, AdamW8bit, OptimizerConfig

if TYPE_CHECKING:
    from torch.nn import Parameter

NF4_BLOCK, NF4_SECOND_BLOCK = 64, 256
"""Weights that share a maximum, and maxima that share one in turn (QLoRA; Dettmers et al., 2023)."""
NF4_TABLES = 4 * (16 + 256)
"""Bytes of what the 4 bits of a weight and the 8 of a maximum stand for, kept with every matrix."""
BNB8_BLOCK, BNB8_LEAST = 256, 4096
"""bitsandbytes keeps the 8-bit state of tensors of so many entries on, with one maximum a block."""
MATRICES = ("Linear", "Conv1D")


def weight_bytes(model: Any, kind: str, *, disk_bytes: int | None = None) -> tuple[int, bool]:
    """Bytes of a frozen model held as `kind` says (`Sketch.packed`), and whether that is exact. What `packable`
    leaves out stays as it is.

    bnb8 and torchao_int8: 1 byte a weight and a scale a row (4 bytes, or 2); nf4: 1/2 byte, 1/64 for the blocks' maxima
    and 4/(64 * 256) for theirs, and two tables a matrix. Any other kind: the size of its files, else 9/16 byte a
    weight: 4 bits, and 16 for 32 of them.
    """
    whole = measure(model).bytes
    if kind == "none":
        return whole, True
    matrices = packable(model)
    plain = sum(m.weight.numel() * m.weight.element_size() for m in matrices)
    if kind == "bnb8":
        packed = sum(m.weight.numel() + 4 * rows_of(m) for m in matrices)
    elif kind == "torchao_int8":
        packed = sum(m.weight.numel() + m.weight.element_size() * rows_of(m) for m in matrices)
    elif kind == "nf4":
        packed = sum(_nf4(m.weight.numel()) for m in matrices)
    else:
        return (
            (disk_bytes, False)
            if disk_bytes
            else (whole - plain + sum(m.weight.numel() for m in matrices) * 9 // 16, False)
        )
    return whole - plain + packed, True


def packable(model: Any) -> list[Any]:
    """The matrices that a quantisation packs: all but the head, what transformers keeps wide (T5's `wo`), and adapters.
    An adapted matrix is there once, though peft's wrapper of it is also called Linear and shows its weight."""
    head = head_of(model)
    heads = {name.rpartition(".")[2] for name in head_names(inner(model))} if is_classifier(model) else set()
    wide = tuple(getattr(inner(model), "_keep_in_fp32_modules", None) or ())
    return [
        module
        for name, module in model.named_modules()
        if type(module).__name__ in MATRICES
        and module is not head
        and not heads & {*name.split(".")}
        and not hasattr(module, "base_layer")
        and ".lora_" not in name
        and not name.removesuffix(".base_layer").endswith(wide)
    ]


def rows_of(module: nn.Module) -> int:
    """Outputs of a matrix."""
    weight: Any = module.weight
    return int(weight.shape[1] if type(module).__name__ == "Conv1D" else weight.shape[0])


def _nf4(entries: int) -> int:
    blocks = -(-entries // NF4_BLOCK)
    return -(-entries // 2) + blocks + 4 * -(-blocks // NF4_SECOND_BLOCK) + NF4_TABLES


def gradient_bytes(trainable: Iterable[Parameter]) -> int:
    """One gradient a trainable weight, of its type."""
    return sum(p.numel() * p.element_size() for p in trainable)


def state_bytes(config: OptimizerConfig, trainable: Sequence[Parameter]) -> int:
    """Bytes of the optimiser's state after its first step, exactly.

    AdamW: two moments of the weight's type, and a step count of 4 bytes a tensor. 8-bit AdamW: two bytes a weight, two
    maxima a block of 256 and two tables of 256 numbers, 4 bytes each; tensors below 4096 entries stay in 32 bits. SGD:
    the momentum. Adafactor: for matrices the mean squares of rows and of columns, for the rest of every weight, in
    32 bits, and the weight's own mean square.
    """
    if isinstance(config, AdamW8bit):
        return sum(_adamw_8bit(p.numel()) for p in trainable)
    if isinstance(config, AdamW):
        return sum(2 * p.numel() * p.element_size() + 4 for p in trainable)
    if isinstance(config, SGD):
        return gradient_bytes(trainable) if config.momentum else 0
    assert isinstance(config, Adafactor), type(config)
    return sum(_adafactor(p) for p in trainable)


def _adamw_8bit(entries: int) -> int:
    if entries < BNB8_LEAST:
        return 8 * entries
    return 2 * entries + 2 * 4 * -(-entries // BNB8_BLOCK) + 2 * 4 * 256


def _adafactor(weight: Parameter) -> int:
    entries = weight.numel()
    if weight.ndim >= 2:
        entries = weight.numel() // weight.shape[-1] + weight.numel() // weight.shape[-2]
    return 4 * entries + 4


def step_bytes(config: OptimizerConfig, trainable: Sequence[Parameter]) -> int:
    """The most that the step itself makes and throws away: Adafactor an update and a copy of its largest weight."""
    if isinstance(config, Adafactor):
        return max((3 * 4 * p.numel() for p in trainable), default=0)
    return 0
