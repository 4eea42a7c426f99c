"""The findings about memory: what each part takes, the peak, and whether there is room."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kdlab.preflight.findings import Section, size
from kdlab.preflight.machine import Room
from kdlab.preflight.memory import Memory, told
from kdlab.training.device import choose_precision

if TYPE_CHECKING:
    from kdlab.training.recipe import TrainConfig

TIGHT = 0.9
"""A share of the memory above which a run that fits is warned of."""
WORTH = 0.02
"""A share of the peak below which a part is not worth lowering."""


def autocast_of(config: TrainConfig, device: torch.device) -> torch.dtype | None:
    """The type that the student's products run in, where it is not that of its weights."""
    return {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(choose_precision(config.trainer, device))


def say_memory(section: Section, memory: Memory, there: Room) -> None:
    """The parts, the peak, and whether it fits."""
    for part in sorted(memory.parts, key=lambda part: -part.bytes):
        section.say("note", told(part))
    if memory.estimated:
        section.say("note", f"activations by a formula: {memory.estimated}")
    line = f"peak {size(memory.peak)}, while: {memory.moment}; {there.where} has {size(there.total)}"
    lower = [part for part in memory.largest(6) if part.lower and part.bytes > WORTH * memory.peak][:3]
    remedy = "lower the largest: " + "; ".join(f"{part.name} ({size(part.bytes)}): {part.lower}" for part in lower)
    if not lower:
        remedy = f"a device with more than {size(memory.peak)}: no option takes much of it"
    if memory.peak > there.total:
        section.say("failure", f"{line}: it does not fit", remedy)
    elif memory.peak > TIGHT * there.total:
        section.say("warning", f"{line}: it hardly fits", remedy)
    elif there.free is not None and memory.peak > there.free:
        section.say("warning", f"{line}, of which {size(there.free)} are free now", "end what else uses the memory")
    else:
        section.say("ok", line)
