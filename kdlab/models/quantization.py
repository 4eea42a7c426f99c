"""How the weights of a frozen model are held in memory: packed by us while they are read, or packed in the checkpoint.

Nothing here imports a backend before it is needed; a backend or a device that is missing is said in one line.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

PACKAGES = {
    "bnb8": ("bitsandbytes",),
    "nf4": ("bitsandbytes",),
    "torchao_int8": ("torchao",),
    "gptq": ("optimum", "gptqmodel"),
    "gguf": ("kernels",),
    "exl3": ("exllamav3",),
}
"""What each kind needs."""
EXTRAS = {"bnb8": "quant", "nf4": "quant", "torchao_int8": "quant", "gptq": "gptq"}
"""Our extra that installs it. `kernels` has none: transformers says which releases of it fit; nor has `exllamav3`,
which compiles its kernels for the CUDA that is there."""
TRAINABLE = ("none", "bnb8", "nf4", "torchao_int8")
"""Kinds that adapters are trained over (`student.quantization`)."""
BACKENDS = {"bitsandbytes": "nf4", "torchao": "torchao_int8", "gptq": "gptq", "awq": "gptq", "exl3": "exl3"}
"""By the method that a checkpoint was saved with, a kind that needs the same packages."""
AS_SAVED = ("gptq", "exl3")
"""Kinds that read a checkpoint which was saved so, and pack nothing."""


@dataclass(kw_only=True)
class QuantizationConfig:
    """`kind`: none, bnb8 (LLM.int8, Dettmers et al., 2022), nf4 (QLoRA's 4-bit, Dettmers et al., 2023), torchao_int8
    (weight-only): packed while a plain checkpoint is read. gptq (Frantar et al., 2023) and exl3 (ExLlamaV3, after QTIP,
    Tseng et al., 2024; on a CUDA GPU only): the checkpoint is packed already. gguf: a GGUF file stays packed, on a GPU
    (with none it is spelt out). On a CPU they save memory, not time: bfloat16 is as fast or faster. A checkpoint that
    is packed already loads as it is with none."""

    kind: str = "none"

    def __post_init__(self) -> None:
        if self.kind not in ("???", "none", *PACKAGES):
            raise ValueError(f"quantization.kind={self.kind}: must be one of none, {', '.join(PACKAGES)}")


def lacking(kind: str) -> str | None:
    """The first package that `kind` needs and that is not installed, with how to install it; None where all are."""
    package = next((name for name in PACKAGES.get(kind, ()) if importlib.util.find_spec(name) is None), None)
    if package is None:
        return None
    remedy = f"pip install 'kdlab[{EXTRAS[kind]}]'" if kind in EXTRAS else f"pip install {package}"
    return f"needs {package}; {remedy}"


def saved_method(model_config: Any) -> str | None:
    """What the weights of a checkpoint were packed with (gptq, awq, bitsandbytes, ...); None for plain ones."""
    saved = getattr(model_config, "quantization_config", None)
    if saved is None:
        return None
    method = saved.get("quant_method") if isinstance(saved, dict) else getattr(saved, "quant_method", None)
    return str(getattr(method, "value", method) or "bitsandbytes")  # its old checkpoints name none


def loading_options(
    quantization: QuantizationConfig,
    model_config: Any,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    name: str,
    unpacked: Sequence[str] = (),
) -> dict[str, Any]:
    """What `from_pretrained` is told besides; empty for plain weights that stay plain.

    `name` is the model as the user typed it, `unpacked` the modules that are not packed (none: as the backend does it,
    which leaves the head of a language model). Raises ValueError where kind and checkpoint do not fit, and where the
    packages are missing.
    """
    kind, saved = quantization.kind, saved_method(model_config)
    if kind in AS_SAVED and saved != kind:
        wanted = "a GPTQ" if kind == "gptq" else "an EXL3"
        raise ValueError(
            f"{name}: quantization={kind} reads {wanted} checkpoint, and its weights are {saved or 'plain'}; "
            f"set quantization={'none' if saved else 'bnb8, nf4 or torchao_int8'}"
        )
    place = {"device_map": {"": str(device)}}  # packed weights cannot be moved afterwards
    if saved is not None:
        if kind not in ("none", *AS_SAVED):
            raise ValueError(f"{name}: its weights are quantised already ({saved}); set quantization=none")
        problem = lacking(BACKENDS.get(saved, "none"))
        if problem is not None:
            raise ValueError(f"{name}: its weights are packed by {saved}, which {problem}")
        if saved == "exl3":
            _refuse_without_cuda(device, name)
            _let_transformers_read_exl3(name)
        return place
    packer = transformers_config(quantization, dtype, unpacked)
    return {} if packer is None else {"quantization_config": packer} | place


def _refuse_without_cuda(device: torch.device | str, name: str) -> None:
    """Raise ValueError unless `device` is a CUDA GPU: EXL3 has kernels for no other."""
    if str(device).partition(":")[0] != "cuda":
        raise ValueError(
            f"{name}: EXL3 weights need a CUDA GPU, and this runs on {device}; "
            "give a checkpoint that is packed otherwise, "
            "or serve it elsewhere and ask it with teacher=openai"
        )


def _let_transformers_read_exl3(name: str) -> None:
    """Tell transformers what `quant_method: exl3` in a config.json means. exllamav3 compiles when it is imported, and
    raises whatever its compiler does."""
    import importlib

    try:
        importlib.import_module("exllamav3.integration.transformers").register()
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        words = " ".join(str(error).split())[:160]
        raise ValueError(
            f"{name}: exllamav3 is installed but does not load ({words}); it needs release 1.6 or "
            "later, built for this CUDA and PyTorch"
        ) from error


def transformers_config(config: QuantizationConfig, dtype: torch.dtype, unpacked: Sequence[str] = ()) -> Any:
    """What `from_pretrained(quantization_config=...)` takes to pack plain weights; None for kind "none". `unpacked` as
    in `loading_options`.

    Raises ValueError naming the extra when its package is not installed.
    """
    if config.kind in ("none", *AS_SAVED):
        return None
    problem = lacking(config.kind)
    if problem is not None:
        raise ValueError(f"quantization.kind={config.kind}: {problem}")
    import transformers

    left = [*unpacked] or None
    if config.kind == "gguf":
        return transformers.GgufConfig()
    if config.kind == "torchao_int8":
        from torchao.quantization import Int8WeightOnlyConfig

        return transformers.TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=left)
    if config.kind == "bnb8":
        return transformers.BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=left)
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_use_double_quant=True,
        llm_int8_skip_modules=left,
    )


def refuse_gguf(path: str, *, device: torch.device | str, name: str) -> None:
    """Raise ValueError where `path` is no GGUF file, or cannot stay packed: only a GPU has kernels for its blocks."""
    if not path.endswith(".gguf"):
        raise ValueError(f"{name}: quantization=gguf reads a .gguf file; set quantization=none, or give one")
    if str(device).partition(":")[0] not in ("cuda", "mps"):
        raise ValueError(
            f"{name}: quantization=gguf needs a CUDA or Apple GPU, and this runs on {device}; "
            "quantization=none reads the file dequantised"
        )
    problem = lacking("gguf")
    if problem is not None:
        raise ValueError(f"{name}: quantization=gguf {problem}")


def refuse_unpacked(model: nn.Module, quantization: QuantizationConfig, *, name: str) -> None:
    """Raise ValueError where packing found no matrix that it could pack: torchao knows only plain linear layers."""
    if quantization.kind in ("none", *AS_SAVED):
        return
    if not any(hasattr(w, "__tensor_flatten__") or not w.is_floating_point() for w in model.parameters()):
        raise ValueError(
            f"{name}: {quantization.kind} can pack none of the layers of {type(model).__name__}; choose bnb8 or nf4"
        )


def prepare(model: nn.Module) -> nn.Module:
    """A packed model made ready for adapters: frozen, and what bitsandbytes leaves unpacked (norms, embeddings, head)
    in float32, as QLoRA trains. Gradient checkpointing is the trainer's, once."""
    from peft import prepare_model_for_kbit_training

    prepared: nn.Module = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return prepared


def quiet_backends() -> None:
    """No word from bitsandbytes on every int8 product on a CPU (hundreds a forward pass), nor from torchao, which
    transformers and peft import wherever it is installed, on kernels for GPUs that are not here."""
    for name in ("bitsandbytes.autograd._functions", "torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
