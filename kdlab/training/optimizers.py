"""The optimisers, one typed config each, and the function that builds them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch.nn import Parameter
    from torch.optim import Optimizer


def _fraction(option: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{option}={value}: must be at least 0 and below 1")


@dataclass(kw_only=True)
class OptimizerConfig:
    """Base of all: learning rate and weight decay (never on biases and norms)."""

    lr: float = 5e-5
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"optimizer.lr={self.lr}: must be > 0")
        if not self.weight_decay >= 0:
            raise ValueError(f"optimizer.weight_decay={self.weight_decay}: must be >= 0")


@dataclass(kw_only=True)
class AdamW(OptimizerConfig):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        _fraction("optimizer.beta1", self.beta1)
        _fraction("optimizer.beta2", self.beta2)
        if not self.eps > 0:
            raise ValueError(f"optimizer.eps={self.eps}: must be > 0")


@dataclass(kw_only=True)
class AdamW8bit(AdamW):
    """AdamW with 8-bit state (Dettmers et al., 2022), from bitsandbytes."""


@dataclass(kw_only=True)
class SGD(OptimizerConfig):
    """Stochastic gradient descent with momentum; weight decay is added to the gradient."""

    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _fraction("optimizer.momentum", self.momentum)
        if self.nesterov and self.momentum == 0:
            raise ValueError("optimizer.nesterov=true: needs optimizer.momentum > 0")


@dataclass(kw_only=True)
class Adafactor(OptimizerConfig):
    """Shazeer and Stern (2018), with the learning rate given (no relative step)."""

    clip_threshold: float = 1.0
    decay_rate: float = -0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.clip_threshold > 0:
            raise ValueError(f"optimizer.clip_threshold={self.clip_threshold}: must be > 0")
        if not self.decay_rate < 0:
            raise ValueError(f"optimizer.decay_rate={self.decay_rate}: must be < 0")


OPTIMIZERS = {"adamw": AdamW, "adamw_8bit": AdamW8bit, "sgd": SGD, "adafactor": Adafactor}


def parameter_groups(named: Iterable[tuple[str, Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    """The trainable parameters in two groups. Only matrices decay: biases and norms have one dimension."""
    trainable = [parameter for _, parameter in named if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(
    config: OptimizerConfig, named: Iterable[tuple[str, Parameter]], *, device: torch.device, fused: bool = True
) -> Optimizer:
    """The optimiser over the trainable ones of the `named` parameters, which live on `device`.

    `fused=False` where a gradient scaler must see the gradients before the step. Raises ValueError where nothing is
    trainable, or where 8-bit AdamW cannot run.
    """
    import torch

    groups = parameter_groups(named, config.weight_decay)
    if not groups:
        raise ValueError("student: has no trainable parameter; use full training or student.lora")
    if isinstance(config, AdamW8bit):
        return _adamw_8bit(config, groups, device)
    if isinstance(config, AdamW):
        betas = (config.beta1, config.beta2)
        fused = fused and device.type in ("cpu", "cuda", "mps")
        return torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=config.eps, fused=fused)
    if isinstance(config, SGD):
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)
    if isinstance(config, Adafactor):
        return _adafactor(config, groups)
    raise ValueError(f"optimizer: must be one of {', '.join(OPTIMIZERS)}")


def _adafactor(config: Adafactor, groups: list[dict[str, Any]]) -> Optimizer:
    # torch's own Adafactor always scales by the parameter's size and caps the rate by 1/sqrt(step).
    from transformers.optimization import Adafactor as TransformersAdafactor

    optimizer: Optimizer = TransformersAdafactor(
        groups,
        lr=config.lr,
        clip_threshold=config.clip_threshold,
        decay_rate=config.decay_rate,
        scale_parameter=False,
        relative_step=False,
        warmup_init=False,
    )
    return optimizer


def _adamw_8bit(config: AdamW8bit, groups: list[dict[str, Any]], device: torch.device) -> Optimizer:
    import torch

    try:
        import bitsandbytes
    except ImportError as error:
        raise ValueError("optimizer=adamw_8bit: needs bitsandbytes: pip install 'kdlab[quant]'") from error
    build = bitsandbytes.optim.AdamW8bit
    # bitsandbytes fails at the first step where it has no kernel for the device, so take that step now. Smaller
    # tensors than 4096 are kept in 32 bits and would prove nothing.
    probe = torch.nn.Parameter(torch.ones(4096, device=device))
    probe.grad = torch.ones_like(probe)
    try:
        build([probe], lr=config.lr).step()
    except (RuntimeError, NotImplementedError, AttributeError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"optimizer=adamw_8bit: bitsandbytes {bitsandbytes.__version__} does not run on {device} ({reason}); "
            "use optimizer=adamw"
        ) from error
    optimizer: Optimizer = build(groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps)
    return optimizer
