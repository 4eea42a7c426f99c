"""A model in fewer bits for PyTorch, packed while it is read from a plain folder, and saved packed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.models.classifier import head_names, load_classifier
from kdlab.models.loading import auto_class, load_config, load_language_model, read_weights, refuse_lacking
from kdlab.models.quantization import QuantizationConfig, quiet_backends, refuse_unpacked
from kdlab.models.source import resolve

if TYPE_CHECKING:
    from kdlab.text.task import Task

GROUP = 32
"""4-bit weights that share a scale."""
INT4_NOTE = "torchao keeps each 4-bit weight in a byte where there is no CUDA kernel: no smaller than torchao_int8"


def write_packed(kind: str, plain: Path, folder: Path, *, task: Task | None, device: str) -> None:
    """Write the model in the folder `plain` into `folder`, packed as a `QuantizationConfig` of this kind packs it.

    Raises ValueError where that packs no layer of the model.
    """
    told: dict[str, Any] = {"quantization": QuantizationConfig(kind=kind), "device": device, "option": "model.path"}
    model: Any
    if task is None:
        model = load_language_model(str(plain), **told)
    else:
        model = load_classifier(str(plain), task=task, fresh_head=False, **told)
    model.save_pretrained(folder)


def write_int4(plain: Path, folder: Path, *, task: Task | None, device: str) -> None:
    """Write the model in the folder `plain` into `folder` with weights of 4 bits (torchao), one scale for 32 of them;
    head and embeddings stay as they are. Raises ValueError where a layer's width is no multiple of 32."""
    import torch
    from torchao.quantization import IntxWeightOnlyConfig
    from torchao.quantization.granularity import PerGroup
    from transformers import AutoModelForSequenceClassification, TorchAoConfig

    quiet_backends()
    name = f"model.path={plain}"
    source = resolve(str(plain), option="model.path")
    config = load_config(source, name)
    auto = auto_class(config) if task is None else AutoModelForSequenceClassification
    left = None
    if task is not None:
        with torch.device("meta"):
            left = head_names(auto.from_config(config))
    int4: torch.dtype = vars(torch)["int4"]  # the stubs of torch lack it
    packer = IntxWeightOnlyConfig(weight_dtype=int4, granularity=PerGroup(GROUP))
    told = {
        "quantization_config": TorchAoConfig(packer, modules_to_not_convert=left),
        "device_map": {"": device},
    }
    model, report = read_weights(auto, source, name, dtype=torch.float32, trust_remote_code=False, told=told)
    refuse_lacking(report["missing_keys"], name)
    refuse_unpacked(model, QuantizationConfig(kind="torchao_int8"), name=name)
    model.save_pretrained(folder)
