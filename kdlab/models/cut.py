"""Cut a student out of a teacher: some of its layers, optionally with fewer feed-forward neurons and attention heads.

The student is built fresh from the changed config and filled with the teacher's weights under their new names, so
that layer numbers, caches and plain `from_pretrained` agree by construction. What cannot be shown to fit is refused.

Shape letters: B batch, T time, L layers, H hidden, F feed-forward neurons, D head size.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kdlab.models.fresh import fill, unfilled
from kdlab.models.narrow import OPTION, WIDTH_NAMES, Narrowing, plan
from kdlab.models.student import CutConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

INDEX_NAMES = {"layer_idx", "layer_id", "layer_number", "training"}
"""Plain attributes of a layer that say where it stands, not what it does."""


def cut(
    teacher: PreTrainedModel, config: CutConfig, *, dtype: torch.dtype, calibration_BT: Tensor | None = None
) -> tuple[PreTrainedModel, list[int]]:
    """The student on the CPU in `dtype`, sharing no memory with `teacher`, and the indices of the layers kept.

    Raises ValueError, naming the option, for layers the teacher does not have, for a width that does not divide, and
    for an architecture that is not understood.
    """
    prefix, layers = find_layers(teacher)
    kept = choose_layers(config, len(layers), lambda: layer_influence(teacher, layers, calibration_BT))
    narrowing = plan(teacher, layers, kept, ffn=config.ffn, heads=config.heads)
    changed = _changed_config(teacher, len(layers), kept, narrowing.fields)
    try:
        student = unfilled(type(teacher), changed, dtype)
    except ValueError as error:
        raise ValueError(f"{OPTION}: {changed.model_type} cannot be built like this ({error})") from error
    _refuse_changed_layers(teacher, layers, find_layers(student)[1], kept)
    try:
        fill(student, _student_state(teacher.state_dict(), prefix, kept, narrowing))
    except RuntimeError as error:
        what = (str(error).splitlines()[1:] or [str(error)])[0].strip()
        raise ValueError(f"{OPTION}: {teacher.config.model_type} cannot be cut like this ({what[:200]})") from error
    if getattr(teacher, "generation_config", None) is not None:
        student.generation_config = copy.deepcopy(teacher.generation_config)
    return student, kept


def find_layers(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The name and the list of the model's layers. Raises ValueError where there is not exactly one such list."""
    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    found = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if len(found) != 1:
        raise ValueError(
            f"{OPTION}: the layers of {model.config.model_type} are not understood; "
            f"give student.path or student.architecture instead"
        )
    return found[0]


def choose_layers(config: CutConfig, count: int, influence: Any) -> list[int]:
    """Which of `count` layers to keep. `influence()` gives the L influences, asked for only by pick=importance."""
    asked = config.layers
    if isinstance(asked, list):
        if asked != sorted(set(asked)) or asked[0] < 0 or asked[-1] >= count:
            raise ValueError(
                f"{OPTION}.layers={asked}: must be increasing layer numbers from 0 to {count - 1} "
                f"(the teacher has {count} layers)"
            )
        return list(asked)
    if asked > count:
        raise ValueError(f"{OPTION}.layers={asked}: the teacher has {count} layers")
    if config.pick == "ends":
        return [*range((asked + 1) // 2), *range(count - asked // 2, count)]
    if config.pick == "importance":
        of_layer = influence() if asked < count else [0.0] * count
        return sorted(sorted(range(count), key=lambda i: -of_layer[i])[:asked])
    if asked == 1:
        return [0]
    steps = asked - 1
    return [(2 * i * (count - 1) + steps) // (2 * steps) for i in range(asked)]  # rounded, first and last kept


def layer_influence(teacher: PreTrainedModel, layers: nn.ModuleList, ids_BT: Tensor | None) -> list[float]:
    """How much each layer changes its input: `1 - mean over tokens of cos(input, output)` (Men et al., ShortGPT, 2024).

    The lower, the less is lost without the layer.
    """
    assert ids_BT is not None, "importance needs calibration tokens"
    influence = [0.0] * len(layers)

    def listen(index: int) -> Any:
        def hook(_module: nn.Module, arguments: Any, keywords: Any, output: Any) -> None:
            before = arguments[0] if arguments else keywords["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            cosine = nn.functional.cosine_similarity(before.float(), after.float(), dim=-1)
            influence[index] = 1.0 - float(cosine.mean())

        return hook

    handles = [layer.register_forward_hook(listen(i), with_kwargs=True) for i, layer in enumerate(layers)]
    try:
        with torch.no_grad():
            teacher.base_model(input_ids=ids_BT.to(teacher.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return influence


def _changed_config(teacher: PreTrainedModel, count: int, kept: list[int], fields: dict[str, int]) -> Any:
    """The teacher's config with `len(kept)` layers: every list with one entry a layer is cut along."""
    old = teacher.config
    values = old.to_dict()
    if "attention_types" in values:  # GPT-Neo writes its list as runs: [[["global", "local"], 6]]
        values["attention_types"] = [[[old.attention_layers[i]], 1] for i in kept]
    for name, value in values.items():
        if isinstance(value, list) and len(value) == count and name not in ("architectures", "attention_types"):
            values[name] = [value[i] for i in kept]
    layers_field = old.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    values |= {layers_field: len(kept), "_name_or_path": ""} | fields
    values.pop("quantization_config", None)
    return type(old).from_dict(values)


def _student_state(state: dict[str, Tensor], prefix: str, kept: list[int], narrowing: Narrowing) -> dict[str, Tensor]:
    """The teacher's weights under the student's names, narrowed; layers that are not kept are left out."""
    new_index = {old: new for new, old in enumerate(kept)}
    layer = re.compile(re.escape(prefix) + r"\.(\d+)\.(.*)")
    out = {}
    for name, tensor in state.items():
        match = layer.fullmatch(name)
        if match is None:
            out[name] = tensor
        elif int(match[1]) in new_index:
            old = int(match[1])
            out[f"{prefix}.{new_index[old]}.{match[2]}"] = narrowing.apply(old, match[2], tensor)
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
        and not name.startswith("_")
        and name not in INDEX_NAMES | WIDTH_NAMES
    }
