"""Tiny random encoder-decoder models of every family in the presets, and batches for them."""

from __future__ import annotations

from typing import Any

import torch
from architectures import IDS, VOCABULARY
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from kdlab.batch import Batch
from kdlab.rows import IGNORE

T5_LIKE = IDS | {"d_model": 32, "d_ff": 48, "d_kv": 8, "num_heads": 4, "dropout_rate": 0.0}
T5_LIKE |= {"decoder_start_token_id": 0, "relative_attention_num_buckets": 8}
BART_LIKE = IDS | {"d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "dropout": 0.0, "init_std": 0.2}
BART_LIKE |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 64}
FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": ("t5", T5_LIKE),
    "flan_t5": ("t5", T5_LIKE | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "mt5": ("mt5", T5_LIKE),
    "bart": ("bart", BART_LIKE | {"decoder_start_token_id": 2, "forced_eos_token_id": 2}),
    "mbart": ("mbart", BART_LIKE | {"scale_embedding": True, "forced_eos_token_id": 2}),
    "pegasus": ("pegasus", BART_LIKE | {"decoder_start_token_id": 0, "forced_eos_token_id": 2}),
    "marian": ("marian", BART_LIKE | {"decoder_start_token_id": 0, "forced_eos_token_id": 2}),
}
FAMILIES = sorted(FIELDS)
T5S = ("t5", "flan_t5", "mt5")


def random_seq2seq(family: str, *, layers: int = 2, seed: int = 0, **changes: Any) -> Any:
    """In eval mode, float32; norms, biases (that behind BART's head too) and FLAN-T5's own head are random."""
    kind, fields = FIELDS[family]
    names = ("num_layers", "num_decoder_layers") if family in T5S else ("encoder_layers", "decoder_layers")
    fields = fields | dict.fromkeys(names, layers) | changes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(kind, **fields), dtype=torch.float32).eval()
        for parameter in model.parameters():
            if parameter.ndim == 1:
                torch.nn.init.normal_(parameter, mean=0.5, std=0.2)
        for name, parameter in model.named_parameters():
            if "relative_attention_bias" in name:
                torch.nn.init.normal_(parameter)
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_()
        if family == "flan_t5":
            model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight) * 0.3)
    return model


def seq2seq_batch(sources: tuple[int, ...] = (9, 5), targets: tuple[int, ...] = (4, 6), *, wider: int = 0) -> Batch:
    """Random sources and targets of these lengths, padded on the right; `wider` pads both by that many more."""
    draw = torch.Generator().manual_seed(0)
    rows = len(sources)
    ids_BS = torch.zeros(rows, max(sources) + wider, dtype=torch.long)
    mask_BS = torch.zeros_like(ids_BS)
    labels_BT = torch.full((rows, max(targets) + wider), IGNORE)
    for b, (source, target) in enumerate(zip(sources, targets, strict=True)):
        ids_BS[b, :source] = torch.randint(3, VOCABULARY, (source,), generator=draw)
        mask_BS[b, :source] = 1
        labels_BT[b, :target] = torch.randint(3, VOCABULARY, (target,), generator=draw)
    return Batch(
        input_ids_BT=ids_BS,
        attention_mask_BT=mask_BS,
        labels_BT=labels_BT,
        example_ids=tuple(range(rows)),
        shift=False,
    )


def own_logits(model: Any, batch: Batch) -> torch.Tensor:
    """What the model itself says with these labels, by transformers alone."""
    logits: torch.Tensor = model(
        input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT, labels=batch.labels_BT
    ).logits
    return logits
