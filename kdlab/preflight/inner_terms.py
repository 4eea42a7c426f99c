"""The terms over inner layers: whether the layers they name are there, and what they hold: hidden states and attention
maps of the layers that meet, and projections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdlab.losses.inner import AttentionTerm, HiddenTerm, InnerTerm, RelationTerm
from kdlab.models.inner import layer_maps
from kdlab.models.self_attention import self_attention
from kdlab.preflight.live import inner

if TYPE_CHECKING:
    from kdlab.losses.inner import InnerConfig
    from kdlab.preflight.live import Shape
    from kdlab.preflight.sketch import Sketches


@dataclass(frozen=True, kw_only=True)
class InnerBytes:
    """Of the projections, which are trained, and of what is caught and computed in a step."""

    weights: int = 0
    activations: int = 0


def inner_bytes(config: InnerConfig, models: Sketches, shape: Shape) -> InnerBytes:
    """With k pairs of layers, widths H and H', heads A and A', B x T positions, in float32 bytes:

    hidden       k B T (H + 3 H')            states of both sides, their difference and its gradient
    attention    k B T T (A + 3 A')          maps of both sides, and the distance; the passes are run unfused
    relation     k 4 B A T T a relation      self-relations of both sides, and the KL between them
    projections  k H H'                      where the widths differ, or project=true
    """
    teacher, student = models.teacher, models.student
    if teacher is None or not config.terms():
        return InnerBytes()
    positions, square = shape.batch * shape.width, shape.batch * shape.width**2
    weights = activations = 0
    for term in config.terms().values():
        k = pairs(term, student.layers)
        if isinstance(term, HiddenTerm):
            activations += 4 * k * positions * (student.hidden + 3 * teacher.hidden)
            if term.project or student.hidden != teacher.hidden:
                weights += 4 * k * student.hidden * teacher.hidden
        elif isinstance(term, AttentionTerm):
            activations += 4 * k * square * (student.heads + 3 * teacher.heads)
        else:
            assert isinstance(term, RelationTerm)
            heads = term.heads or teacher.heads
            activations += 4 * k * len(term.kinds) * 4 * square * heads
    return InnerBytes(weights=weights, activations=activations)


def refuse_layers(config: InnerConfig, models: Sketches) -> None:
    """Raise ValueError, naming the option, for layers that a model does not have, or whose attention is not
    understood."""
    if models.teacher is None:
        return
    student, teacher = inner(models.student.model), inner(models.teacher.model)
    for name, found in layer_maps(config, student, teacher).items():
        if name == "hidden":
            continue
        for pair in found:
            self_attention(student, pair.student, option=f"inner.{name}")
            self_attention(teacher, pair.teacher, option=f"inner.{name}")


def pairs(term: InnerTerm, layers: int) -> int:
    """How many student layers learn from one of the teacher's."""
    if term.map == "last":
        return 1
    return layers if term.map == "even" else len(term.map)
