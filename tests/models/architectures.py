"""Tiny random models of every architecture in the presets, for the tests of heads and cuts."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

VOCABULARY = 97
IDS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LLAMA_LIKE = IDS | {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "max_position_embeddings": 64,
}
GPT_LIKE = IDS | {"n_embd": 32, "n_head": 4, "n_positions": 64, "initializer_range": 0.2}
FIELDS: dict[str, dict[str, Any]] = {
    "gpt2": GPT_LIKE,
    "llama": LLAMA_LIKE,
    "opt": IDS
    | {"hidden_size": 32, "ffn_dim": 48, "num_attention_heads": 4, "word_embed_proj_dim": 16}
    | {"max_position_embeddings": 64, "init_std": 0.2},
    "gpt_neo": IDS
    | {"hidden_size": 32, "num_heads": 4, "intermediate_size": 48, "max_position_embeddings": 64, "window_size": 4},
    "gptj": GPT_LIKE | {"rotary_dim": 4},
    "qwen2": LLAMA_LIKE,
    "qwen3": LLAMA_LIKE | {"head_dim": 8},
    "gemma2": LLAMA_LIKE | {"head_dim": 8, "sliding_window": 4},
    "cohere": LLAMA_LIKE,
    "granite": LLAMA_LIKE | {"logits_scaling": 8.0},
    "mistral": LLAMA_LIKE,
    "phi": LLAMA_LIKE,
}
NAMES = sorted(FIELDS)


def random_model(name: str, *, layers: int = 2, seed: int = 0, **changes: Any) -> Any:
    """In eval mode; biases and norms are random too, so that dropping one shows."""
    fields = FIELDS[name] | changes
    if name == "gpt_neo":
        fields |= {"num_layers": layers, "attention_types": [[["global", "local"], layers // 2]]}
    else:
        fields |= {"n_layer" if name in ("gpt2", "gptj") else "num_hidden_layers": layers}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **fields), dtype=torch.float32).eval()
        for parameter in model.parameters():
            if parameter.ndim == 1:
                torch.nn.init.normal_(parameter, mean=0.5, std=0.2)
    return model


def random_ids(rows: int = 2, length: int = 9, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))
