"""The live teacher: a frozen model in this process that answers every batch with a signal."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from kdlab.batch import Batch
    from kdlab.models.quantization import QuantizationConfig
    from kdlab.models.source import Source
    from kdlab.rows import Signal
    from kdlab.teachers.options import TeacherConfig
    from kdlab.text.task import Task


class LiveTeacher:
    """A frozen model, its tokenizer, and where it came from (`description`; `disk_bytes` and `source` None when made in
    memory).

    It is no `nn.Module`: whoever holds one never lists, moves or saves its weights by accident.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        description: str,
        disk_bytes: int | None = None,
        source: Source | None = None,
    ) -> None:
        from kdlab.models.classifier import split_of

        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.description = description
        self.disk_bytes = disk_bytes
        self.source = source
        self.split = split_of(model)

    @property
    def vocabulary(self) -> int:
        return self.split.vocabulary

    @cached_property
    def identity(self) -> str:
        """The hash of the weights: of their files where they were read from some, else of the tensors."""
        from kdlab.models.weights_hash import source_hash, weight_hash

        return weight_hash(self.model) if self.source is None else source_hash(self.source)

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
    config: TeacherConfig,
    quantization: QuantizationConfig | None = None,
    *,
    device: torch.device | str = "cpu",
    task: Task | None = None,
) -> LiveTeacher:
    """Load the teacher that `config` names, frozen, on `device`: with a `task` a classifier of its classes, which has
    a head. Raises as `load_language_model` and `load_classifier` do."""
    from kdlab.models.classifier import load_classifier
    from kdlab.models.loading import load_language_model, load_tokenizer
    from kdlab.models.source import disk_bytes, resolve

    if config.source == "none" or config.path is None:
        raise ValueError("teacher.path is not set: give a hub id, a folder or a .gguf file, or set teacher=none")
    tokenizer = load_tokenizer(config.path, config.revision, config.trust_remote_code, option="teacher.path")
    told: dict[str, Any] = {
        "revision": config.revision,
        "dtype": config.dtype,
        "trust_remote_code": config.trust_remote_code,
        "quantization": quantization,
        "device": device,
        "option": "teacher.path",
    }
    source: Source | None = resolve(config.path, config.revision, option="teacher.path")
    assert source is not None
    description, on_disk = source.description, disk_bytes(source)
    if task is None:
        model = load_language_model(config.path, **told)
    else:
        model = load_classifier(config.path, task=task, fresh_head=False, tokenizer=tokenizer, **told)
        source = None if source.kind == "tiny" else source  # its head is drawn in memory
    return LiveTeacher(model, tokenizer, description=description, disk_bytes=on_disk, source=source)
