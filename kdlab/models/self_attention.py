"""The self-attention of a layer: where it is, its maps, and its queries, keys and values.

Shape letters: B batch, T time, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

APART = (("q_proj", "k_proj", "v_proj"), ("query", "key", "value"), ("q", "k", "v"), ("q_lin", "k_lin", "v_lin"))
"""Names of the modules that give queries, keys and values."""
BLOCKS = ("c_attn", "qkv_proj")
"""Modules that give all three, one behind the other (GPT-2, Phi-3)."""
BY_HEAD = ("query_key_value",)
"""Modules that give all three of a head, head by head (GPT-NeoX, BLOOM)."""
BY_HEAD_MODELS = ("gpt_neox", "bloom")
KINDS = ("query", "key", "value")
CROSS = ("cross", "encoder_attn", "encdecattention")
"""A module with one of these in its name attends from the decoder to the encoder."""
DROPOUTS = ("attn_dropout", "attention_dropout", "dropout")
"""What attention modules call the dropout of their maps."""


@dataclass(frozen=True, kw_only=True)
class SelfAttention:
    """`module` gives the maps, `projections[kind]` the queries, keys or values; `name` is the module's in its model."""

    name: str
    module: nn.Module
    projections: dict[str, nn.Module]
    layout: str
    heads: int
    groups: int
    """Heads of the queries, and of keys and values (fewer in grouped-query attention)."""

    def pick(self, output_BTF: Tensor, kind: str) -> Tensor:
        """The queries, keys or values `[B, T, F]` in what `projections[kind]` gave."""
        if self.layout == "apart":
            return output_BTF
        place = KINDS.index(kind)
        if self.layout == "by_head":
            return output_BTF.reshape(*output_BTF.shape[:-1], self.heads, 3, -1)[..., place, :].flatten(-2)
        size = output_BTF.shape[-1] // (self.heads + 2 * self.groups)
        widths = [self.heads * size, self.groups * size, self.groups * size]
        first = sum(widths[:place])
        return output_BTF[..., first : first + widths[place]]


def self_attention(model: PreTrainedModel, layer: str, *, option: str) -> SelfAttention:
    """The self-attention of the layer of that name. Raises ValueError, naming the `option`, where none is
    understood."""
    config = model.config.get_text_config()
    for name, module in model.get_submodule(layer).named_modules():
        if any(word in name.lower() for word in CROSS):
            continue
        found = _projections(module, config)
        if found is not None:
            layout, projections = found
            heads = int(config.num_attention_heads)
            groups = int(getattr(config, "num_key_value_heads", None) or heads)
            full = f"{layer}.{name}" if name else layer
            return SelfAttention(
                name=full, module=module, projections=projections, layout=layout, heads=heads, groups=groups
            )
    raise ValueError(
        f"{option}: {layer} of {config.model_type} has no self-attention that is understood "
        f"(one with {', '.join(APART[0])} or the like); leave {option} out"
    )


def looks_back(module: nn.Module, model: PreTrainedModel) -> bool:
    """Whether a self-attention sees no key behind its query: as it says itself, else as its model's family does."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    own = getattr(module, "is_causal", None)
    encodes = model.config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return bool(own) if own is not None else not encodes or bool(getattr(model.config, "is_decoder", False))


def attend_eagerly(model: PreTrainedModel) -> bool:
    """Make the model compute its attention maps one by one, which the fused ways do not give. Whether that was new."""
    if model.config.get_text_config()._attn_implementation == "eager":
        return False
    model.set_attn_implementation("eager")
    return True


def keep_every_key(attention: SelfAttention) -> bool:
    """Switch the dropout of attention maps off: a map with holes cannot be matched. Whether it was on."""
    was_on = False
    for name in DROPOUTS:
        value = getattr(attention.module, name, None)
        if isinstance(value, nn.Dropout):
            was_on = was_on or value.p > 0
            value.p = 0.0
        elif isinstance(value, float):
            was_on = was_on or value > 0
            setattr(attention.module, name, 0.0)
    return was_on


def _projections(module: nn.Module, config: Any) -> tuple[str, dict[str, nn.Module]] | None:
    children = dict(module.named_children())
    for names in APART:
        if children.keys() >= {*names}:
            return "apart", {kind: children[name] for kind, name in zip(KINDS, names, strict=True)}
    for name in BLOCKS:
        if name in children and not getattr(config, "multi_query", False):
            return "blocks", dict.fromkeys(KINDS, children[name])
    for name in BY_HEAD:
        if name in children and config.model_type in BY_HEAD_MODELS:
            return "by_head", dict.fromkeys(KINDS, children[name])
    return None
