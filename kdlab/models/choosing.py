"""Which layers of a teacher a student keeps: by number, evenly spread, from both ends, or by what they change.

Shape letters: B batch, T time, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kdlab.models.narrow import OPTION
from kdlab.models.seq2seq import decoder_inputs, is_seq2seq
from kdlab.models.student import CutConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def choose_layers(
    config: CutConfig, count: int, influence: Callable[[], Sequence[float]], *, of: str = "teacher"
) -> list[int]:
    """Which of `count` layers to keep. `influence()` gives the L influences, asked for only by pick=importance. `of`
    names their owner for the messages: "teacher", or "teacher's decoder"."""
    asked = config.layers
    if isinstance(asked, list):
        if asked != sorted(set(asked)) or asked[0] < 0 or asked[-1] >= count:
            raise ValueError(
                f"{OPTION}.layers={asked}: must be increasing layer numbers from 0 to {count - 1} "
                f"(the {of} has {count} layers)"
            )
        return list(asked)
    if asked > count:
        raise ValueError(f"{OPTION}.layers={asked}: the {of} has {count} layers")
    if config.pick == "ends":
        return [*range((asked + 1) // 2), *range(count - asked // 2, count)]
    if config.pick == "importance":
        of_layer = influence() if asked < count else [0.0] * count
        return sorted(sorted(range(count), key=lambda i: -of_layer[i])[:asked])
    if asked == 1:
        return [0]
    steps = asked - 1
    return [(2 * i * (count - 1) + steps) // (2 * steps) for i in range(asked)]  # rounded, first and last kept


def layer_influence(teacher: PreTrainedModel, layers: Sequence[nn.Module], ids_BT: Tensor | None) -> list[float]:
    """How much each layer changes its input: `1 - mean over tokens of cos(input, output)` (Men et al., ShortGPT, 2024).

    The lower, the less is lost without the layer. An encoder-decoder model reads the first half of the tokens, and its
    decoder the second.
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
    inputs = {"input_ids": ids_BT.to(teacher.device)}
    if is_seq2seq(teacher):
        source, target = inputs["input_ids"].tensor_split(2, dim=1)
        inputs = {"input_ids": source, "decoder_input_ids": decoder_inputs(teacher, target)}
    try:
        with torch.no_grad():
            teacher.base_model(**inputs, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return influence
