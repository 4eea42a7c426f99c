"""Narrow the layers of a teacher: keep its most important feed-forward neurons and attention heads.

Importance is a product of weight norms, so it needs no data:

    neuron f:  |gate_f| * |up_f| * |down_f|      (rows into it, column out of it; without a gate, |up_f| * |down_f|)
    head d:    |Q_d| * |K_g| * |V_g| * |O_d|     (g: the key-value group of the head; Frobenius norms)

Grouped-query attention loses whole groups, judged by the sum of their heads, so that the ratio of query to key-value
heads stays. What is kept keeps its order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OPTION = "student.from_teacher"

FFN_MODULES = (
    (("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"),  # Llama, Mistral, Qwen, Gemma, Granite, Cohere
    (("mlp.c_fc",), "mlp.c_proj"),  # GPT-2, GPT-Neo
    (("mlp.fc_in",), "mlp.fc_out"),  # GPT-J
    (("mlp.fc1",), "mlp.fc2"),  # Phi
    (("fc1",), "fc2"),  # OPT
    (("mlp.dense_h_to_4h",), "mlp.dense_4h_to_h"),  # GPT-NeoX
)
FFN_FIELDS = ("intermediate_size", "ffn_dim", "n_inner")
ATTENTION_MODULES = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.dense"),  # Phi
)
WIDTH_NAMES = {
    *("in_features", "out_features", "nf", "nx", "intermediate_size", "split_size"),
    *("num_heads", "num_attention_heads", "num_key_value_heads"),
}
"""Plain attributes of a layer that say how wide it is."""


@dataclass(kw_only=True)
class Narrowing:
    """Changes to the config (`fields`), and what to keep of which tensors: `keep[teacher layer][tensor name]` is a
    dimension and the indices along it."""

    fields: dict[str, int] = field(default_factory=dict)
    keep: dict[int, dict[str, tuple[int, Tensor]]] = field(default_factory=dict)

    def apply(self, layer: int, name: str, tensor: Tensor) -> Tensor:
        """What the student keeps of a tensor of teacher layer `layer`; the tensor itself where nothing is narrowed."""
        if name not in self.keep.get(layer, {}):
            return tensor
        dimension, indices = self.keep[layer][name]
        return tensor.index_select(dimension, indices.to(tensor.device))


def plan(
    teacher: PreTrainedModel, layers: nn.ModuleList, kept: list[int], *, ffn: int | None, heads: int | None
) -> Narrowing:
    """How to narrow the layers `kept` to `ffn` neurons and `heads` heads (None: as they are).

    Raises ValueError, naming the option, for widths the teacher cannot be narrowed to.
    """
    narrowing = Narrowing(keep={i: {} for i in kept})
    if ffn is not None:
        _plan_ffn(narrowing, teacher.config, layers, kept, ffn)
    if heads is not None:
        _plan_heads(narrowing, teacher.config, layers, kept, heads)
    return narrowing


def _plan_ffn(narrowing: Narrowing, config: Any, layers: nn.ModuleList, kept: list[int], ffn: int) -> None:
    values = config.to_dict()
    config_field = next((name for name in FFN_FIELDS if name in values), None)
    for index in kept:
        names = next((names for names in FFN_MODULES if _has(layers[index], (*names[0], names[1]))), None)
        if names is None or config_field is None:
            raise ValueError(
                f"{OPTION}.ffn={ffn}: the feed-forward layers of {config.model_type} are not understood; "
                f"set {OPTION}.ffn=null"
            )
        inputs = [layers[index].get_submodule(name) for name in names[0]]
        output = layers[index].get_submodule(names[1])
        width = _matrix(output).shape[1]
        if ffn > width:
            raise ValueError(f"{OPTION}.ffn={ffn}: the teacher has {width} feed-forward neurons")
        importance_F = _matrix(output).float().norm(dim=0)
        for module in inputs:
            importance_F = importance_F * _matrix(module).float().norm(dim=1)
        chosen = importance_F.topk(ffn).indices.sort().values
        for name, module in zip(names[0], inputs, strict=True):
            _keep_outputs(narrowing, index, name, module, chosen)
        _keep_inputs(narrowing, index, names[1], output, chosen)
    assert config_field is not None
    narrowing.fields[config_field] = ffn


def _plan_heads(narrowing: Narrowing, config: Any, layers: nn.ModuleList, kept: list[int], heads: int) -> None:
    count = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or count
    if heads > count:
        raise ValueError(f"{OPTION}.heads={heads}: the teacher has {count} attention heads")
    if heads % (count // groups):
        raise ValueError(
            f"{OPTION}.heads={heads}: must be a multiple of {count // groups}, "
            f"the teacher's query heads for each key-value head"
        )
    kept_groups = heads // (count // groups)
    size = 0
    for index in kept:
        names = next((names for names in ATTENTION_MODULES if _has(layers[index], names)), None)
        if names is None:
            raise ValueError(
                f"{OPTION}.heads={heads}: {config.model_type} ties heads and head size to its hidden size; "
                f"set {OPTION}.heads=null"
            )
        query, key, value, output = (layers[index].get_submodule(name) for name in names)
        size = _matrix(query).shape[0] // count
        per_head = _head_norms(_matrix(query), size) * _head_norms(_matrix(output).T, size)
        per_group = _head_norms(_matrix(key), size) * _head_norms(_matrix(value), size)
        importance = per_head.view(groups, -1).sum(dim=1) * per_group
        chosen = importance.topk(kept_groups).indices.sort().values
        group_entries = _entries(chosen, size)
        head_entries = _entries(chosen, size * (count // groups))
        _keep_outputs(narrowing, index, names[0], query, head_entries)
        _keep_outputs(narrowing, index, names[1], key, group_entries)
        _keep_outputs(narrowing, index, names[2], value, group_entries)
        _keep_inputs(narrowing, index, names[3], output, head_entries)
    attributes = config.attribute_map
    narrowing.fields |= {attributes.get("num_attention_heads", "num_attention_heads"): heads, "head_dim": size}
    if getattr(config, "num_key_value_heads", None):
        narrowing.fields["num_key_value_heads"] = kept_groups


def _has(layer: nn.Module, names: tuple[str, ...]) -> bool:
    modules = dict(layer.named_modules())
    return all(getattr(modules.get(name), "weight", None) is not None for name in names)


def _is_transposed(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D"  # GPT-2 keeps [inputs, outputs]


def _matrix(module: nn.Module) -> Tensor:
    """The weight as `[outputs, inputs]`."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.detach().T if _is_transposed(module) else weight.detach()


def _head_norms(matrix: Tensor, size: int) -> Tensor:
    norms: Tensor = matrix.float().reshape(-1, size * matrix.shape[1]).norm(dim=1)
    return norms


def _entries(blocks: Tensor, size: int) -> Tensor:
    """The indices of all entries of `blocks`, each `size` long."""
    return (blocks[:, None] * size + torch.arange(size, device=blocks.device)).flatten()


def _keep_outputs(narrowing: Narrowing, layer: int, name: str, module: nn.Module, entries: Tensor) -> None:
    narrowing.keep[layer][f"{name}.weight"] = (1 if _is_transposed(module) else 0, entries)
    if getattr(module, "bias", None) is not None:
        narrowing.keep[layer][f"{name}.bias"] = (0, entries)


def _keep_inputs(narrowing: Narrowing, layer: int, name: str, module: nn.Module, entries: Tensor) -> None:
    narrowing.keep[layer][f"{name}.weight"] = (0 if _is_transposed(module) else 1, entries)
