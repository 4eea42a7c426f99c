"""Which layer of a student learns from which of its teacher, by the names that the modules have in their models."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdlab.models.cut import find_stacks

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class LayerPair:
    """Two modules, and the `part` of the models that they are in: "encoder", "decoder", or "" where there is one stack
    of layers only."""

    student: str
    teacher: str
    part: str = ""


def layer_pairs(
    asked: Any, student: PreTrainedModel, teacher: PreTrainedModel, *, option: str, layers_only: bool = True
) -> list[LayerPair]:
    """The pairs that `asked` ("even", "last", numbers or names; `losses.inner.InnerTerm.map`) means for two models.

    "even" gives layer i of the student's S layers the teacher's layer round((i + 1) T / S) - 1 of its T, so that the
    last learns from the last. By name, any two modules may be paired unless `layers_only`.

    Raises ValueError, naming the `option`, for a number or a name that a model does not have.
    """
    of_student, of_teacher = stacks(student, option=option), stacks(teacher, option=option)
    if of_student.keys() != of_teacher.keys():
        raise ValueError(
            f"{option}: one of student and teacher has an encoder and a decoder, the other one stack; leave it out"
        )
    if isinstance(asked, dict):
        return [
            LayerPair(
                student=ours,
                teacher=theirs,
                part=_same_part(
                    _part(student, of_student, ours, f"{option}.map", "student", layers_only),
                    _part(teacher, of_teacher, theirs, f"{option}.map", "teacher", layers_only),
                    f"{option}.map={{{ours}: {theirs}}}",
                ),
            )
            for ours, theirs in asked.items()
        ]
    if isinstance(asked, list):
        if "" not in of_student:
            raise ValueError(
                f"{option}.map={asked}: an encoder and a decoder have a layer of each number; pair them by name, "
                f"as {{{of_student['decoder'][0]}: {of_teacher['decoder'][0]}}}"
            )
        ours, theirs = of_student[""], of_teacher[""]
        return [
            LayerPair(
                student=_numbered(ours, i, f"{option}.map={asked}", "student"),
                teacher=_numbered(theirs, j, f"{option}.map={asked}", "teacher"),
            )
            for i, j in asked
        ]
    return [
        LayerPair(student=names[i], teacher=of_teacher[part][j], part=part)
        for part, names in of_student.items()
        for i, j in _spread(asked, len(names), len(of_teacher[part]))
    ]


def stacks(model: PreTrainedModel, *, option: str) -> dict[str, list[str]]:
    """The names of a model's layers in their order, for each of its parts. Raises ValueError where they are not found
    for certain."""
    try:
        found = find_stacks(model)
    except ValueError as error:
        raise ValueError(
            f"{option}: the layers of {model.config.model_type} are not understood; leave {option} out"
        ) from error
    return {stack.part: [f"{stack.prefix}.{i}" for i in range(len(stack.layers))] for stack in found}


def _spread(asked: str, ours: int, theirs: int) -> list[tuple[int, int]]:
    if asked == "last":
        return [(ours - 1, theirs - 1)]
    assert asked == "even", asked
    return [(i, max((2 * (i + 1) * theirs + ours) // (2 * ours) - 1, 0)) for i in range(ours)]


def _numbered(names: list[str], number: int, asked: str, whose: str) -> str:
    if number >= len(names):
        raise ValueError(f"{asked}: the {whose}'s layers are 0 to {len(names) - 1}, there is no {number}")
    return names[number]


def _part(
    model: PreTrainedModel, of_model: dict[str, list[str]], name: str, option: str, whose: str, layers_only: bool
) -> str:
    """The part that a module is in."""
    layers = [layer for names in of_model.values() for layer in names]
    known = layers if layers_only else [found for found, _ in model.named_modules() if found]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:3]
        what = "layer" if layers_only else "module"
        raise ValueError(f"{option}: the {whose} has no {what} {name}; did you mean {' or '.join(near)}?")
    if "" in of_model:
        return ""
    for part, names in of_model.items():
        inside = names[0].rsplit(".", 2)[0]  # `encoder` of `encoder.block.0`
        if name == inside or name.startswith(f"{inside}."):
            return part
    raise ValueError(f"{option}: {name} of the {whose} is neither in its encoder nor in its decoder")


def _same_part(ours: str, theirs: str, asked: str) -> str:
    if ours != theirs:
        raise ValueError(f"{asked}: the student's is in its {ours}, the teacher's in its {theirs}; pair like with like")
    return ours
