"""Load a tokenizer or a language model, causal or encoder-decoder, from any source, safely: safetensors only, no remote
code by default."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.models import dtype as dtypes
from kdlab.models import tiny
from kdlab.models.adapter import attach, refuse_other_kind
from kdlab.models.progress import bars_on_terminals_only, say
from kdlab.models.quantization import (
    QuantizationConfig,
    loading_options,
    quiet_backends,
    refuse_gguf,
    refuse_unpacked,
    transformers_config,
)
from kdlab.models.source import Source, resolve

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

VOCABULARY = ("tokenizer.json", "*vocab*", "*.model", "*.spm", "*.tiktoken")
"""Files of which a tokenizer needs one, as the kinds of tokenizers call them."""
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

    local = Path(path).expanduser()
    if (local / "tokenizer_config.json").is_file():  # a folder may hold a tokenizer and no model
        source = Source(kind="folder", location=str(local), folder=local, description=f"folder {local.resolve()}")
    else:
        source = resolve(path, revision, option=option)
        source = source.base or source  # an adapter's tokenizer is its model's, unless it brings one
    if source.kind == "tiny":
        return tiny.byte_tokenizer()
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source.location, revision=source.revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, ImportError) as error:
        if source.folder is not None and not any(any(source.folder.glob(kind)) for kind in VOCABULARY):
            raise ValueError(
                f"{option}={path}: no tokenizer lies in {source.folder} (no tokenizer.json or the like); copy the "
                "tokenizer's files there from the model that it was made of"
            ) from error
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
        raise ValueError(
            f"{name}: the tokenizer has no pad, end-of-text or unknown token to pad with; save it with an eos_token"
        )
    tokenizer.pad_token = chosen
    say(f"{name}: the tokenizer names no pad token; padding with {chosen!r}")


def load_language_model(
    path: str,
    *,
    revision: str | None = None,
    dtype: str | torch.dtype = "auto",
    trust_remote_code: bool = False,
    quantization: QuantizationConfig | None = None,
    device: torch.device | str = "cpu",
    option: str = "path",
) -> PreTrainedModel:
    """The language model at `path` on `device`, in eval mode: a causal one, or an encoder-decoder.

    Raises ValueError for an encoder, for a checkpoint whose files lack weights, and for a quantisation whose package
    is missing; FileNotFoundError when `path` is nowhere.
    """
    quiet_backends()
    number = dtypes.resolve(dtype, device) if isinstance(dtype, str) else dtype
    quantization, name = quantization or QuantizationConfig(), f"{option}={path}"
    if quantization.kind == "gguf":
        return _packed_gguf(path, number, device, name)
    source = resolve(path, revision, option=option)
    config = load_config(source, name, trust_remote_code)
    refuse_unless_language_model(config, name)
    refuse_other_kind(source, name, classifies=False)
    files = source.base or source
    if files.kind == "tiny":
        refuse_packed_tiny(quantization, name)
        model = tiny.tiny_model(files.location.removeprefix("tiny:")).to(device=device, dtype=number)
        return model if source.base is None else attach(model, source, name).eval()
    packed = loading_options(quantization, config, dtype=number, device=device, name=name)
    model, report = read_weights(
        auto_class(config), files, name, dtype=number, trust_remote_code=trust_remote_code, told=packed
    )
    refuse_lacking(report["missing_keys"], name)
    if source.base is not None:
        model = attach(model, source, name)
    refuse_unpacked(model, quantization, name=name)
    return (model if packed else model.to(device)).eval()


def refuse_packed_tiny(quantization: QuantizationConfig, name: str) -> None:
    """Raise ValueError where a model that is made in memory is to be packed while it is read."""
    if quantization.kind != "none":
        raise ValueError(f"{name}: a tiny model is made in memory and cannot be quantised; set quantization=none")


def read_weights(
    auto: Any, source: Source, name: str, *, dtype: torch.dtype, trust_remote_code: bool, told: dict[str, Any]
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model that a class of transformers makes of a source's files, and its report of what they lack. `told` is
    what `from_pretrained` is told besides. Raises ValueError for files that are damaged, and for a backend that does
    not load."""
    from safetensors import SafetensorError

    arguments: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "trust_remote_code": trust_remote_code}
    try:
        with bars_on_terminals_only():
            model, report = auto.from_pretrained(
                source.location, revision=source.revision, output_loading_info=True, **arguments, **told
            )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:  # damaged, or no backend
        raise ValueError(f"{name}: cannot be loaded ({_short(error)})") from error
    return model, report


def refuse_lacking(missing: Iterable[str], name: str) -> None:
    """Raise ValueError where files lack weights of their model."""
    lacking = sorted(missing)
    if lacking:
        raise ValueError(f"{name}: its files lack {len(lacking)} weights of the model, e.g. {lacking[0]}")


def _packed_gguf(path: str, dtype: torch.dtype, device: torch.device | str, name: str) -> PreTrainedModel:
    """A GGUF file whose weights stay in their blocks. transformers would spell them out where it finds no kernel."""
    from transformers import AutoModelForCausalLM

    refuse_gguf(path, device=device, name=name)
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"{name}: no such file or folder")
    packer = transformers_config(QuantizationConfig(kind="gguf"), dtype)
    with bars_on_terminals_only():
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, quantization_config=packer, dtype=dtype, device_map={"": str(device)}
        )
    if getattr(model.hf_quantizer.quantization_config, "dequantize", True):
        raise ValueError(f"{name}: quantization=gguf found no kernel for this GPU; set quantization=none")
    return model.eval()


def load_config(source: Source, name: str, trust_remote_code: bool = False) -> Any:
    """The model config of a source; of an adapter, that of its base model."""
    from transformers import AutoConfig

    source = source.base or source
    if source.kind == "tiny":
        return tiny.tiny_config(source.location.removeprefix("tiny:"))
    try:
        return AutoConfig.from_pretrained(
            source.location, revision=source.revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"{name}: no usable config.json ({_short(error)})") from error


def auto_class(config: Any) -> Any:
    """The class of transformers that makes a language model of this config."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM if getattr(config, "is_encoder_decoder", False) else AutoModelForCausalLM


def refuse_unless_language_model(config: Any, name: str) -> None:
    """Raise unless the config is that of a decoder that continues text, or of an encoder-decoder that answers one."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    )

    kind, own = config.model_type, getattr(config, "auto_map", None)
    if any(str(made).endswith("ForSequenceClassification") for made in config.architectures or ()):
        raise ValueError(
            f"{name}: a classifier, it cannot write text; set dataset.labels, or give a causal or an encoder-decoder "
            "language model"
        )
    if getattr(config, "is_encoder_decoder", False):
        if kind not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES and not own:
            raise ValueError(f"{name}: transformers knows no text-to-text model of type {kind}")
        return
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        raise ValueError(
            f"{name}: {kind} is an encoder, it cannot write text; give a causal or an encoder-decoder language model"
        )
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not own:
        raise ValueError(f"{name}: transformers knows no causal language model of type {kind}")


def _short(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return (lines[-1] if lines[0].endswith(":") else lines[0])[:160]  # below a heading, the last line is the remedy
