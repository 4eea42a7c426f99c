"""`open_teacher`: the teacher that the group `teacher` describes, wherever its predictions come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from kdlab.models.quantization import QuantizationConfig
    from kdlab.teachers.base import Teacher
    from kdlab.teachers.options import TeacherConfig
    from kdlab.text.task import Task


def open_teacher(
    config: TeacherConfig,
    quantization: QuantizationConfig | None = None,
    *,
    device: torch.device | str = "cpu",
    task: Task | None = None,
) -> Teacher | None:
    """The teacher that `config` names, None for `source` "none". A live one is loaded on `device`, with its weights
    held as `quantization` says, and decides about what `task` asks; the others answer on the device of the batch.

    Raises ValueError or FileNotFoundError, in one line, where it is not there or cannot be used.
    """
    if config.source == "none":
        return None
    if config.source == "cached":
        from kdlab.teachers.cached import CachedTeacher

        return CachedTeacher.open(config)
    if config.source == "openai":
        from kdlab.teachers.remote import RemoteTeacher

        return RemoteTeacher(config)
    from kdlab.teachers.live import load_teacher

    return load_teacher(config, quantization, device=device, task=task)
