"""How a processor multiplies 8-bit numbers, which decides how they are best made."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from kdlab.models.dtype import processor_flags

VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}


@dataclass(frozen=True, kw_only=True)
class Processor:
    """`reduce_range`: weights have 7 bits, because the processor adds two products of 8 bits in 16, where they
    overflow. `signed`: activations are signed numbers."""

    name: str
    reduce_range: bool = False
    signed: bool = False


PRESETS = {
    "avx2": Processor(name="avx2", reduce_range=True),
    "avx512": Processor(name="avx512", reduce_range=True),
    "avx512_vnni": Processor(name="avx512_vnni"),
    "arm64": Processor(name="arm64", signed=True),
}


def choose_processor(name: str, *, cpuinfo: Path = Path("/proc/cpuinfo"), machine: str | None = None) -> Processor:
    """The preset of a name; of "auto", that of the processor here (by `cpuinfo`, as Linux tells it, and the `machine`
    of the system). An unknown one is taken for the least, avx2, which is right everywhere."""
    if name != "auto":
        return PRESETS[name]
    if (machine or platform.machine()).lower() in ("arm64", "aarch64"):
        return PRESETS["arm64"]
    flags = processor_flags(cpuinfo)
    if flags & VNNI:
        return PRESETS["avx512_vnni"]
    return PRESETS["avx512" if "avx512f" in flags else "avx2"]
