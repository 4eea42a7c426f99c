"""Which number format a model is held in. `auto` takes bfloat16 where the processor or GPU multiplies it natively.

PyTorch runs bfloat16 everywhere, but emulates it where the hardware cannot: then it is slower than float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86, x86 with tiles, arm
NAMES = ("auto", "float32", "bfloat16", "float16")


def check(option: str, name: str) -> None:
    """Refuse an unknown name, naming the option it was given to."""
    if name != "???" and name not in NAMES:
        raise ValueError(f"{option}={name}: must be one of {', '.join(NAMES)}")


def resolve(name: str, device: torch.device | str) -> torch.dtype:
    """The `torch.dtype` for `name`; "auto" is bfloat16 where `device` multiplies it natively, else float32."""
    import torch

    check("dtype", name)
    if name != "auto":
        dtype = getattr(torch, name)
        assert isinstance(dtype, torch.dtype)
        return dtype
    return torch.bfloat16 if native_bfloat16(torch.device(device)) else torch.float32


def native_bfloat16(device: torch.device) -> bool:
    """Whether `device` has bfloat16 matrix instructions (x86: avx512_bf16 or amx_bf16; arm: bf16; CUDA: Ampere on)."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return processor_has_bfloat16()
    return device.type == "xpu"


def processor_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Ask PyTorch's own processor report first, then the kernel's list of flags.

    `torch.ops.mkldnn._is_mkldnn_bf16_supported` is no help: it is true on any AVX-512 machine, emulated or not.
    """
    import torch

    report = getattr(torch.cpu, "get_capabilities", None)
    if report is not None:
        known = [bool(value) for flag, value in report().items() if flag in BFLOAT16_FLAGS]
        if known:
            return any(known)
    return bool(processor_flags(cpuinfo) & BFLOAT16_FLAGS)


def processor_flags(cpuinfo: Path) -> set[str]:
    """The flags of the first processor in a Linux `/proc/cpuinfo`; empty where there is none."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return set()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features"):
            return set(value.split())
    return set()
