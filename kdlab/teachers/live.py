"""The live teacher: a frozen model in this process that answers every batch with a signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdlab.models import dtype as dtypes

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from kdlab.batch import Batch
    from kdlab.models.quantization import QuantizationConfig
    from kdlab.rows import Signal

SOURCES = ("live", "none")


@dataclass(kw_only=True)
class TeacherConfig:
    """`source`: "live" (a model in this process) or "none" (labels alone teach). `path` is a hub id, a folder, a GGUF
    file or `tiny:llama`; `dtype` auto is bfloat16 where the hardware multiplies it natively."""

    source: str = "live"
    path: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    dtype: str = "auto"

    def __post_init__(self) -> None:
        if self.source not in ("???", *SOURCES):
            raise ValueError(f"teacher.source={self.source}: must be one of {', '.join(SOURCES)}")
        dtypes.check("teacher.dtype", self.dtype)


class LiveTeacher:
    """A frozen model, its tokenizer, and where it came from (`description`; `disk_bytes` None when made in memory).

    It is no `nn.Module`: whoever holds one never lists, moves or saves its weights by accident.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        description: str,
        disk_bytes: int | None = None,
    ) -> None:
        from kdlab.models.head import SplitModel

        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.description = description
        self.disk_bytes = disk_bytes
        self.split = SplitModel(model)

    def signal(self, batch: Batch, positions_N: Tensor) -> Signal:
        """The teacher's predictions at `positions_N`, indices into the flattened `[B * T]` positions of `batch`.

        Rows are chosen before the head, so unsupervised positions cost no logits. The tensors carry no graph but are
        no inference tensors: a loss may multiply them or feed them to a trainable layer. Autocast is off: the
        teacher computes in its own number format.
        """
        import torch

        with torch.no_grad(), torch.autocast(self.model.device.type, enabled=False):
            hidden_BTH = self.split.hidden(batch.to(self.model.device))
            hidden_NH = hidden_BTH.flatten(0, 1)[positions_N.to(hidden_BTH.device)]
            return self.split.project(hidden_NH)


def load_teacher(
    config: TeacherConfig, quantization: QuantizationConfig | None = None, *, device: torch.device | str = "cpu"
) -> LiveTeacher:
    """Load the teacher that `config` names, frozen, on `device`. Raises as `load_language_model` does."""
    from kdlab.models.loading import load_language_model, load_tokenizer
    from kdlab.models.source import disk_bytes, resolve

    if config.source == "none" or config.path is None:
        raise ValueError("teacher.path is not set: give a hub id, a folder or a .gguf file, or set teacher=none")
    tokenizer = load_tokenizer(config.path, config.revision, config.trust_remote_code, option="teacher.path")
    model = load_language_model(
        config.path,
        revision=config.revision,
        dtype=config.dtype,
        trust_remote_code=config.trust_remote_code,
        quantization=quantization,
        device=device,
        option="teacher.path",
    )
    source = resolve(config.path, config.revision, option="teacher.path")
    return LiveTeacher(model, tokenizer, description=source.description, disk_bytes=disk_bytes(source))
