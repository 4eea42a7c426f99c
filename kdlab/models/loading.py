"""Load a tokenizer or a causal language model from any source, safely: safetensors only, no remote code by default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdlab.models import dtype as dtypes
from kdlab.models import tiny
from kdlab.models.progress import bars_on_terminals_only, say
from kdlab.models.quantization import QuantizationConfig, transformers_config
from kdlab.models.source import Source, resolve

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PAD_NAMES = ("<pad>", "[PAD]", "<|pad|>", "<|finetune_right_pad_id|>", "<|fim_pad|>")


def load_tokenizer(
    path: str, revision: str | None = None, trust_remote_code: bool = False, *, option: str = "path"
) -> PreTrainedTokenizerBase:
    """The tokenizer of `path`, with a pad token. Where it names none, one it already has is taken (said on stderr):
    the embeddings keep their size."""
    tokenizer = read_tokenizer(path, revision, trust_remote_code, option=option)
    set_pad_token(tokenizer, f"{option}={path}")
    return tokenizer


def read_tokenizer(
    path: str, revision: str | None = None, trust_remote_code: bool = False, *, option: str = "path"
) -> PreTrainedTokenizerBase:
    """The tokenizer of `path` as it is stored. Of a hub id, only the tokenizer's files are downloaded."""
    from transformers import AutoTokenizer

    source = resolve(path, revision, option=option)
    if source.kind == "tiny":
        return tiny.byte_tokenizer()
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source.location, revision=source.revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(f"{option}={path}: no usable tokenizer ({_short(error)})") from error
    return tokenizer


def set_pad_token(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Give `tokenizer` a pad token out of its own vocabulary: a pad-like one, else end of text, else unknown."""
    if tokenizer.pad_token is not None:
        return
    vocabulary = tokenizer.get_vocab()
    candidates = [t for t in PAD_NAMES if t in vocabulary] + [tokenizer.eos_token, tokenizer.unk_token]
    chosen = next((t for t in candidates if t is not None), None)
    if chosen is None:
        raise ValueError(f"{name}: the tokenizer has no pad, end-of-text or unknown token to pad with")
    tokenizer.pad_token = chosen
    say(f"{name}: the tokenizer names no pad token; padding with {chosen!r}")


def load_causal(
    path: str,
    *,
    revision: str | None = None,
    dtype: str | torch.dtype = "auto",
    trust_remote_code: bool = False,
    quantization: QuantizationConfig | None = None,
    device: torch.device | str = "cpu",
    option: str = "path",
) -> PreTrainedModel:
    """The causal language model at `path` on `device`, in eval mode.

    Raises ValueError for an encoder-decoder or encoder-only checkpoint, for one whose files lack weights, and for a
    quantisation whose package is missing; FileNotFoundError when `path` is nowhere.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    number = dtypes.resolve(dtype, device) if isinstance(dtype, str) else dtype
    quantizer = transformers_config(quantization or QuantizationConfig(), number)
    source = resolve(path, revision, option=option)
    name = f"{option}={path}"
    config = load_config(source, name, trust_remote_code)
    refuse_unless_causal(config, name)
    if source.kind == "tiny":
        if quantizer is not None:
            raise ValueError(f"{name}: a tiny model is made in memory and cannot be quantised; set quantization=none")
        return tiny.tiny_model(path.removeprefix("tiny:")).to(device=device, dtype=number)
    if quantizer is not None and getattr(config, "quantization_config", None) is not None:
        raise ValueError(f"{name}: its weights are quantised already; set quantization=none")
    arguments: dict[str, Any] = {"dtype": number, "use_safetensors": True, "trust_remote_code": trust_remote_code}
    if quantizer is not None:  # a quantised model cannot be moved afterwards
        arguments |= {"quantization_config": quantizer, "device_map": {"": str(device)}}
    try:
        with bars_on_terminals_only():
            model, report = AutoModelForCausalLM.from_pretrained(
                source.location, revision=source.revision, output_loading_info=True, **arguments
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:  # damaged files, shapes that do not fit
        raise ValueError(f"{name}: cannot be loaded ({_short(error)})") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(f"{name}: its files lack {len(missing)} weights of the model, e.g. {missing[0]}")
    return (model if quantizer is not None else model.to(device)).eval()


def load_config(source: Source, name: str, trust_remote_code: bool = False) -> Any:
    """The model config of a source."""
    from transformers import AutoConfig

    if source.kind == "tiny":
        return tiny.tiny_config(source.location.removeprefix("tiny:"))
    try:
        return AutoConfig.from_pretrained(
            source.location, revision=source.revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"{name}: no usable config.json ({_short(error)})") from error


def refuse_unless_causal(config: Any, name: str) -> None:
    """Raise unless the config is that of a decoder that continues text."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(f"{name}: {kind} is an encoder-decoder model; give a causal language model")
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        raise ValueError(f"{name}: {kind} is an encoder, it cannot continue text; give a causal language model")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not getattr(config, "auto_map", None):
        raise ValueError(f"{name}: transformers knows no causal language model of type {kind}")


def _short(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:160]
