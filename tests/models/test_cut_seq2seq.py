"""Students cut out of encoder-decoder models."""

import json

import pytest
import torch
from architectures import random_ids
from encoder_decoders import FAMILIES, T5S, own_logits, random_seq2seq, seq2seq_batch
from transformers import AutoModelForSeq2SeqLM

from kdlab.models.cut import cut, find_stacks
from kdlab.models.head import SplitModel
from kdlab.models.student import CutConfig

LAYERS = 4
BATCH = seq2seq_batch()


def make(family, config, **more):
    teacher = random_seq2seq(family, layers=LAYERS)
    student, kept = cut(teacher, config, dtype=torch.float32, **more)
    return teacher, student, kept


def same(a, b):
    with torch.no_grad():
        return torch.equal(own_logits(a, BATCH), own_logits(b, BATCH))


@pytest.mark.parametrize("family", FAMILIES)
def test_all_layers_give_the_teacher_itself(family):
    teacher, student, kept = make(family, CutConfig(layers=LAYERS))
    assert kept == {"encoder": [0, 1, 2, 3], "decoder": [0, 1, 2, 3]}
    assert same(teacher, student)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kept", [[0, 3], [1, 2, 3]])
def test_the_student_is_the_teacher_without_the_dropped_layers(family, kept):
    """Oracle: the teacher itself, its other layers taken out of both lists by hand, and the relative positions, which
    T5's first layer holds for all, handed to the first that stays."""
    teacher, student, _ = make(family, CutConfig(layers=kept))
    for stack in find_stacks(teacher):
        if family in T5S and kept[0]:
            first, now = stack.layers[0].layer[0].SelfAttention, stack.layers[kept[0]].layer[0].SelfAttention
            now.relative_attention_bias, now.has_relative_attention_bias = first.relative_attention_bias, True
        for i in reversed(range(LAYERS)):
            if i not in kept:
                del stack.layers[i]
    assert same(teacher, student)
    mine = {parameter.data_ptr() for parameter in student.parameters()}
    assert mine.isdisjoint(parameter.data_ptr() for parameter in teacher.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_student_reloads_plainly_and_generates(family, tmp_path):
    teacher, student, _ = make(family, CutConfig(layers=[1, 2]))
    student.save_pretrained(tmp_path)
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert same(student, again)
    assert SplitModel(again).scale == SplitModel(teacher).scale
    assert again.generation_config.decoder_start_token_id == teacher.generation_config.decoder_start_token_id
    values = json.loads((tmp_path / "config.json").read_text())
    assert {v for k, v in values.items() if k.endswith("_layers") or k == "num_hidden_layers"} == {2}
    start = {} if family != "mbart" else {"decoder_start_token_id": 5}
    for model in (student, again):  # generation keeps a cache by layer number
        written = model.generate(random_ids(1, 4), max_new_tokens=4, do_sample=False, eos_token_id=None, **start)
        assert written.shape == (1, 5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tied_head_stays_tied_and_a_head_apart_apart(family):
    teacher, student, _ = make(family, CutConfig(layers=2))
    assert (student.lm_head.weight is student.get_input_embeddings().weight) == (family != "flan_t5")
    assert torch.equal(student.lm_head.weight, teacher.lm_head.weight)
    assert torch.equal(student.get_input_embeddings().weight, teacher.get_input_embeddings().weight)
    decoder = student.get_decoder().embed_tokens.weight
    assert decoder is student.get_input_embeddings().weight


def test_stacks_of_two_depths_are_cut_each_by_its_own_count():
    teacher = random_seq2seq("bart", decoder_layers=3, encoder_layers=5)
    _, kept = cut(teacher, CutConfig(layers=2), dtype=torch.float32)
    assert kept == {"encoder": [0, 4], "decoder": [0, 2]}
    with pytest.raises(ValueError, match=r"student.from_teacher.layers=4: the teacher's decoder has 3 layers"):
        cut(teacher, CutConfig(layers=4), dtype=torch.float32)
    with pytest.raises(ValueError, match=r"from 0 to 2 \(the teacher's decoder has 3 layers\)"):
        cut(teacher, CutConfig(layers=[0, 4]), dtype=torch.float32)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_importance_drops_the_layers_that_do_nothing(family):
    teacher, idle = random_seq2seq(family, layers=LAYERS), {"encoder": 2, "decoder": 1}
    for stack in find_stacks(teacher):
        for name, module in stack.layers[idle[stack.part]].named_modules():
            if name.rpartition(".")[2] in ("o", "wo", "out_proj", "fc2"):
                module.weight.data.zero_()
                if getattr(module, "bias", None) is not None:
                    module.bias.data.zero_()
            if family == "bart" and name.endswith("layer_norm"):  # BART norms behind each sum
                torch.nn.init.ones_(module.weight)
                torch.nn.init.zeros_(module.bias)
    config = CutConfig(layers=3, pick="importance")
    _, kept = cut(teacher, config, dtype=torch.float32, calibration_BT=random_ids(1, 40))
    assert kept == {"encoder": [0, 1, 3], "decoder": [0, 2, 3]}


@pytest.mark.parametrize("width", ["ffn", "heads"])
def test_narrowing_is_refused(width):
    with pytest.raises(ValueError, match=rf"student.from_teacher.{width}=2: t5 is an encoder-decoder model, whose"):
        make("t5", CutConfig(layers=2, **{width: 2}))


def test_layers_that_are_not_found_for_certain_are_refused():
    teacher = random_seq2seq("bart")
    teacher.get_encoder().extra = torch.nn.ModuleList([torch.nn.Identity()])
    with pytest.raises(ValueError, match=r"student.from_teacher: the layers of bart are not understood"):
        find_stacks(teacher)
