"""How big a model is: parameters, and bytes in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Size:
    """`parameters` and `trainable_parameters` count a tied weight once and a packed weight unpacked; `bytes` is what
    parameters and buffers occupy in memory, scales of quantised weights included."""

    parameters: int
    trainable_parameters: int
    bytes: int

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def measure(model: nn.Module) -> Size:
    """The size of `model` as it is now."""
    parameters = list(model.parameters())  # each tied weight once
    return Size(
        parameters=sum(_entries(p) for p in parameters),
        trainable_parameters=sum(_entries(p) for p in parameters if p.requires_grad),
        bytes=sum(_bytes(p) for p in [*parameters, *model.buffers()]) + sum(_bytes(s) for s in _moved_scales(model)),
    )


def _moved_scales(model: nn.Module) -> Iterator[Tensor]:
    """bitsandbytes moves an int8 weight's scales from the weight to its layer when the layer is first used."""
    for module in model.modules():
        scales = getattr(getattr(module, "state", None), "SCB", None)
        if scales is not None and getattr(module.weight, "SCB", None) is None:
            yield scales


def _entries(weight: Tensor) -> int:
    state = getattr(weight, "quant_state", None)  # bitsandbytes packs two 4-bit weights into a byte
    return int(state.shape.numel()) if state is not None else weight.numel()


def _bytes(weight: Tensor) -> int:
    return sum(part.numel() * part.element_size() for part in _parts(weight))


def _parts(weight: Tensor) -> list[Tensor]:
    """The plain tensors a weight is made of: itself, or data and scales of a quantised one."""
    if hasattr(weight, "__tensor_flatten__"):  # torchao
        names, _ = weight.__tensor_flatten__()
        return [part for name in names for part in _parts(getattr(weight, name))]
    scales: list[Any] = [getattr(weight, "SCB", None)]  # bitsandbytes int8: one scale a row
    state = getattr(weight, "quant_state", None)
    if state is not None:  # 4 bits: block maxima, themselves quantised in blocks
        scales += [state.absmax, state.code, getattr(state.state2, "absmax", None), getattr(state.state2, "code", None)]
    return [weight, *(scale for scale in scales if scale is not None)]
