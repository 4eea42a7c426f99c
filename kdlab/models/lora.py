"""LoRA on any model: adapters on its matrices, its own weights frozen, a classifier's head trained whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kdlab.models.adapter import CLASSIFIES
from kdlab.models.classifier import head_names, is_classifier
from kdlab.models.seq2seq import is_seq2seq
from kdlab.models.source import resolve
from kdlab.models.student import LoraConfig, StudentConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def add_lora(model: PreTrainedModel, config: LoraConfig, *, seed: int) -> PreTrainedModel:
    """Wrap `model` in adapters; its own weights are frozen, the head of a language model too. A classifier's head is
    trained whole and saved with the adapters."""
    import peft

    modules = config.target_modules
    decides = is_classifier(model)
    heads = [name.rpartition(".")[2] for name in head_names(model)] if decides else []
    head = next((name for name, m in model.named_modules() if not decides and m is model.get_output_embeddings()), None)
    if head is not None and head in modules:
        raise ValueError(f"student.lora.target_modules={modules}: the head ({head}) stays frozen; leave it out")
    for name in heads:
        if modules != "all-linear" and name in modules:
            raise ValueError(f"student.lora.target_modules={modules}: {name} is trained whole; leave it out")
    lora = peft.LoraConfig(
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=modules,
        task_type=CLASSIFIES if decides else "SEQ_2_SEQ_LM" if is_seq2seq(model) else "CAUSAL_LM",
        modules_to_save=heads or None,
        fan_in_fan_out=type(model).__name__.startswith("GPT2"),  # GPT-2 keeps its matrices transposed
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return peft.get_peft_model(model, lora)
        except ValueError as error:
            raise ValueError(f"student.lora.target_modules={modules}: {str(error).splitlines()[0]}") from error


def name_base(model: PreTrainedModel, config: StudentConfig) -> None:
    """Let the adapters name the checkpoint that they belong to: the hub id, or the folder that was read."""
    assert config.path is not None
    source = resolve(config.path, config.revision, option="student.path")
    for adapter in model.peft_config.values():
        adapter.base_model_name_or_path = config.path if source.kind in ("hub", "wheel") else source.location
        adapter.revision = config.revision
