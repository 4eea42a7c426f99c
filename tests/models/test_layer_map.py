"""Which layer learns from which."""

from __future__ import annotations

import re

import pytest

from kdlab.models.layer_map import layer_pairs
from kdlab.models.tiny import tiny_model


def numbers(asked, ours, theirs, kind="llama"):
    student, teacher = tiny_model(kind, layers=ours, hidden=16), tiny_model(kind, layers=theirs, hidden=16)
    pairs = layer_pairs(asked, student, teacher, option="inner.hidden")
    assert all(pair.part == "" for pair in pairs)
    return [(int(pair.student.rsplit(".")[-1]), int(pair.teacher.rsplit(".")[-1])) for pair in pairs]


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (2, 4, [(0, 1), (1, 3)]),
        (3, 3, [(0, 0), (1, 1), (2, 2)]),
        (1, 5, [(0, 4)]),
        (3, 8, [(0, 2), (1, 4), (2, 7)]),
        (4, 2, [(0, 0), (1, 0), (2, 1), (3, 1)]),
        (4, 1, [(0, 0), (1, 0), (2, 0), (3, 0)]),
    ],
)
def test_even_spreads_and_ends_with_the_last(ours, theirs, expected):
    assert numbers("even", ours, theirs) == expected


def test_last_and_pairs_by_number():
    assert numbers("last", 2, 4, kind="gpt2") == [(1, 3)]
    assert numbers([[0, 3], [1, 0], [0, 1]], 2, 4) == [(0, 3), (1, 0), (0, 1)]


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_encoder_and_decoder_are_mapped_each_by_itself(kind):
    student, teacher = tiny_model(kind, layers=1, hidden=16), tiny_model(kind, layers=3, hidden=16)
    pairs = layer_pairs("even", student, teacher, option="inner.hidden")
    assert [pair.part for pair in pairs] == ["encoder", "decoder"]
    for pair in pairs:
        assert pair.part in pair.student
        assert pair.teacher.endswith(".2")
        student.get_submodule(pair.student)
        teacher.get_submodule(pair.teacher)


def test_pairs_by_name():
    student, teacher = tiny_model("llama", layers=2), tiny_model("gpt2", layers=3)
    asked = {"model.layers.1": "transformer.h.2", "model.norm": "transformer.ln_f"}
    pairs = layer_pairs(asked, student, teacher, option="inner.hidden", layers_only=False)
    assert {pair.student: pair.teacher for pair in pairs} == asked
    t5 = tiny_model("t5", layers=2)
    (pair,) = layer_pairs({"decoder.block.0": "decoder.block.1"}, t5, t5, option="inner.hidden")
    assert pair.part == "decoder"


@pytest.mark.parametrize(
    ("kind", "asked", "layers_only", "parts"),
    [
        ("llama", [[0, 7]], True, ["inner.x.map=[[0, 7]]", "teacher's layers are 0 to 1", "no 7"]),
        ("llama", [[2, 0]], True, ["student's layers are 0 to 1", "no 2"]),
        ("llama", {"model.layer.1": "model.layers.1"}, True, ["student has no layer", "model.layers.1"]),
        ("llama", {"model.layers.1": "model.nrm"}, False, ["teacher has no module model.nrm", "model.norm"]),
        ("llama", {"model.norm": "model.norm"}, True, ["has no layer model.norm"]),
        ("t5", [[0, 0]], True, ["pair them by name", "decoder.block.0"]),
        ("t5", {"encoder.block.0": "decoder.block.0"}, True, ["encoder", "decoder", "like with like"]),
        ("t5", {"lm_head": "lm_head"}, False, ["neither in its encoder nor in its decoder"]),
    ],
)
def test_what_a_model_does_not_have(kind, asked, layers_only, parts):
    model = tiny_model(kind, layers=2, hidden=16)
    with pytest.raises(ValueError, match=re.escape("inner.x")) as caught:
        layer_pairs(asked, model, model, option="inner.x", layers_only=layers_only)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_one_stack_does_not_meet_two():
    with pytest.raises(ValueError, match=r"inner.hidden: one of student and teacher has an encoder"):
        layer_pairs("even", tiny_model("llama"), tiny_model("t5"), option="inner.hidden")
