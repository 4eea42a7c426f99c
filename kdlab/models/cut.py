"""Cut a student out of a teacher: some of its layers, optionally with fewer feed-forward neurons and attention heads.

The student is built fresh from the changed config and filled with the teacher's weights under their new names, so
that layer numbers, caches and plain `from_pretrained` agree by construction. What cannot be shown to fit is refused.

Shape letters: B batch, T time, L layers, H hidden, F feed-forward neurons, D head size.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kdlab.models import seq2seq
from kdlab.models.choosing import choose_layers, layer_influence
from kdlab.models.fresh import fill, unfilled
from kdlab.models.narrow import OPTION, WIDTH_NAMES, Narrowing, plan
from kdlab.models.student import CutConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

INDEX_NAMES = {"layer_idx", "layer_id", "layer_number", "training", "has_relative_attention_bias"}
"""Plain attributes of a layer that say where it stands, not what it does."""
SHARED_POSITIONS = "relative_attention_bias"
"""What T5's first layer holds for all of them."""
PARTS = ("encoder", "decoder")
LAYER_FIELDS = (("encoder_layers", "decoder_layers"), ("num_layers", "num_decoder_layers"))


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One list of a model's layers. `part` is "encoder" or "decoder", "" where there is one stack only; `prefix` the
    name of the list in the model."""

    part: str
    prefix: str
    layers: nn.ModuleList


def cut(
    teacher: PreTrainedModel, config: CutConfig, *, dtype: torch.dtype, calibration_BT: Tensor | None = None
) -> tuple[PreTrainedModel, dict[str, list[int]]]:
    """The student on the CPU in `dtype`, sharing no memory with `teacher`, and the indices of the layers kept, by
    `Stack.part`.

    An encoder-decoder model loses layers in both stacks: a count or a list means each. Raises ValueError, naming the
    option, for layers the teacher does not have, for a width that does not divide, and for an architecture that is not
    understood.
    """
    stacks = find_stacks(teacher)
    kept = _choose(teacher, stacks, config, calibration_BT)
    narrowing = Narrowing()
    if stacks[0].part == "":
        narrowing = plan(teacher, stacks[0].layers, kept[""], ffn=config.ffn, heads=config.heads)
    else:
        _refuse_narrowing(teacher, config)
    changed = _changed_config(teacher, stacks, kept, narrowing.fields)
    try:
        student = unfilled(type(teacher), changed, dtype)
    except ValueError as error:
        raise ValueError(f"{OPTION}: {changed.model_type} cannot be built like this ({error})") from error
    for old, new in zip(stacks, find_stacks(student), strict=True):
        _refuse_changed_layers(teacher, old.layers, new.layers, kept[old.part])
    state = teacher.state_dict()
    for stack in stacks:
        state = _student_state(state, stack.prefix, kept[stack.part], narrowing)
    try:
        fill(student, state)
    except RuntimeError as error:
        what = (str(error).splitlines()[1:] or [str(error)])[0].strip()
        raise ValueError(f"{OPTION}: {teacher.config.model_type} cannot be cut like this ({what[:200]})") from error
    if getattr(teacher, "generation_config", None) is not None:
        student.generation_config = copy.deepcopy(teacher.generation_config)
    return student, kept


def find_stacks(model: PreTrainedModel) -> list[Stack]:
    """The stacks of a model's layers: one, or the encoder's and the decoder's. Raises ValueError where they are not
    found for certain."""
    if not seq2seq.is_seq2seq(model):
        prefix, layers = find_layers(model)
        return [Stack(part="", prefix=prefix, layers=layers)]
    both = seq2seq.stacks(model)
    names = {id(module): name for name, module in model.named_modules()}
    found = []
    for part in ("encoder", "decoder") if both is not None else ():
        lists = [(n, m) for n, m in getattr(both, part).named_modules() if isinstance(m, nn.ModuleList)]
        outer = [m for n, m in lists if not any(n.startswith(f"{other}.") for other, _ in lists)]
        found += [Stack(part=part, prefix=names[id(layers)], layers=layers) for layers in outer]
    if [stack.part for stack in found] != ["encoder", "decoder"] or _layer_fields(model.config) is None:
        raise _not_understood(model)
    return found


def find_layers(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The name and the list of the model's layers. Raises ValueError where there is not exactly one such list."""
    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    found = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if len(found) != 1:
        raise _not_understood(model)
    return found[0]


def _not_understood(model: PreTrainedModel) -> ValueError:
    return ValueError(
        f"{OPTION}: the layers of {model.config.model_type} are not understood; "
        f"give student.path or student.architecture instead"
    )


def _layer_fields(config: Any) -> dict[str, str] | None:
    """The fields of an encoder-decoder config that count the layers of each part."""
    values = config.to_dict()
    return next((dict(zip(PARTS, names, strict=True)) for names in LAYER_FIELDS if {*names} <= {*values}), None)


def _choose(
    teacher: PreTrainedModel, stacks: list[Stack], config: CutConfig, calibration_BT: Tensor | None
) -> dict[str, list[int]]:
    kept = {}
    for stack in stacks:
        of = f"teacher's {stack.part}" if stack.part else "teacher"
        influence = partial(layer_influence, teacher, [*stack.layers], calibration_BT)
        kept[stack.part] = choose_layers(config, len(stack.layers), influence, of=of)
    return kept


def _refuse_narrowing(teacher: PreTrainedModel, config: CutConfig) -> None:
    for name, value in (("ffn", config.ffn), ("heads", config.heads)):
        if value is not None:
            raise ValueError(
                f"{OPTION}.{name}={value}: {teacher.config.model_type} is an encoder-decoder model, whose layers are "
                f"not narrowed; set {OPTION}.{name}=null"
            )


def _changed_config(
    teacher: PreTrainedModel, stacks: list[Stack], kept: dict[str, list[int]], fields: dict[str, int]
) -> Any:
    """The teacher's config with the layers `kept`: every list with one entry a layer is cut along."""
    old = teacher.config
    values = old.to_dict()
    if stacks[0].part == "":
        count, chosen = len(stacks[0].layers), kept[""]
        if "attention_types" in values:  # GPT-Neo writes its list as runs: [[["global", "local"], 6]]
            values["attention_types"] = [[[old.attention_layers[i]], 1] for i in chosen]
        for name, value in values.items():
            if isinstance(value, list) and len(value) == count and name not in ("architectures", "attention_types"):
                values[name] = [value[i] for i in chosen]
        values[old.attribute_map.get("num_hidden_layers", "num_hidden_layers")] = len(chosen)
    else:
        counted = _layer_fields(old)
        assert counted is not None
        values |= {counted[part]: len(chosen) for part, chosen in kept.items()}
        values.pop("num_hidden_layers", None)  # old BART configs hold it beside encoder_layers
    values |= {"_name_or_path": ""} | fields
    values.pop("quantization_config", None)
    return type(old).from_dict(values)


def _student_state(state: dict[str, Tensor], prefix: str, kept: list[int], narrowing: Narrowing) -> dict[str, Tensor]:
    """The teacher's weights under the student's names, narrowed; layers that are not kept are left out.

    T5 holds the relative positions of all layers in its first: they go to the student's first.
    """
    new_index = {old: new for new, old in enumerate(kept)}
    layer = re.compile(re.escape(prefix) + r"\.(\d+)\.(.*)")
    first_has = {match[2] for name in state if (match := layer.fullmatch(name)) and int(match[1]) == kept[0]}
    out = {}
    for name, tensor in state.items():
        match = layer.fullmatch(name)
        if match is None:
            out[name] = tensor
            continue
        old, rest = int(match[1]), match[2]
        if old in new_index:
            out[f"{prefix}.{new_index[old]}.{rest}"] = narrowing.apply(old, rest, tensor)
        elif old == 0 and rest not in first_has and SHARED_POSITIONS in rest:
            out[f"{prefix}.0.{rest}"] = tensor
    return out


def _refuse_changed_layers(teacher: PreTrainedModel, old: nn.ModuleList, new: nn.ModuleList, kept: list[int]) -> None:
    """Raise where a kept layer would work otherwise at its new place (a window, a rope, another kind of attention)."""
    for position, index in enumerate(kept):
        before, after = _plain_attributes(old[index]), _plain_attributes(new[position])
        changed = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
        if position != index:
            changed += [k for k, on in before.items() if k.endswith("scale_attn_by_inverse_layer_idx") and on]
        if changed:
            raise ValueError(
                f"{OPTION}: layer {index} of {teacher.config.model_type} would change its {changed[0]} as layer "
                f"{position} of the student; give student.path or student.architecture instead"
            )


def _plain_attributes(layer: nn.Module) -> dict[str, Any]:
    return {
        f"{module_name}.{name}": value
        for module_name, module in layer.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, (bool, int, float, str))
        and SHARED_POSITIONS not in module_name
        and not name.startswith("_")
        and name not in INDEX_NAMES | WIDTH_NAMES
    }
