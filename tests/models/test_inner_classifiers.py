"""Inner terms between two classifiers, decoders and encoders: the formulas over what transformers tells."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from classifiers import TASK, decisions, shaken
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from kdlab.losses.inner import AttentionTerm, HiddenTerm, InnerConfig, RelationTerm
from kdlab.models.classifier import load_classifier, split_of
from kdlab.models.inner import InnerLayers
from kdlab.models.self_attention import looks_back, self_attention
from kdlab.models.student import LoraConfig, Student, StudentConfig, build_student
from kdlab.models.tiny import byte_tokenizer
from kdlab.teachers.live import LiveTeacher
from kdlab.training.models import refuse_inner
from kdlab.training.recipe import TrainConfig

TERMS = {"hidden": HiddenTerm(), "attention": AttentionTerm(), "relation": RelationTerm()}
PAIRS = [("llama", "llama"), ("gpt2", "gpt2"), ("bert", "bert"), ("bert", "llama"), ("gpt2", "bert")]


def pair(student, teacher):
    """Two classifiers that disagree in their bodies too."""
    ours = load_classifier(f"tiny:{student}", task=TASK, fresh_head=True, seed=1)
    return shaken(ours), load_classifier(f"tiny:{teacher}", task=TASK, fresh_head=True, seed=2)


def terms(inner, student, teacher, batch):
    ours, theirs = split_of(student), split_of(teacher)
    with inner.listening():
        ours.hidden(batch)
        with torch.no_grad():
            theirs.hidden(batch)
        return inner.loss(batch, progress=0.0, count=1.0)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize(("student", "teacher"), PAIRS)
def test_padding_changes_no_term_and_gradients_reach_the_body(student, teacher, name):
    ours, theirs = pair(student, teacher)
    inner = InnerLayers(InnerConfig(**{name: TERMS[name]}), split_of(ours), split_of(theirs), seed=0)
    ours.eval()
    losses = [terms(inner, ours, theirs, decisions(more=more))[0] for more in (0, 4)]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)
    assert losses[0] > 0
    losses[0].backward()
    layer = next(p for n, p in ours.named_parameters() if "layer" in n or ".h.0." in n)
    assert layer.grad is not None
    assert layer.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
def test_the_hidden_term_is_the_formula(kind):
    """Oracle: the hidden states that transformers itself hands out, the last layer left out (a norm may follow it)."""
    ours, theirs = pair(kind, kind)
    term = HiddenTerm(map=[[0, 0]])
    inner = InnerLayers(InnerConfig(hidden=term), split_of(ours), split_of(theirs), seed=0)
    ours.eval()
    batch = decisions()
    _, sums = terms(inner, ours, theirs, batch)
    on = batch.attention_mask_BT.bool()
    told = [m(**batch.model_inputs(), output_hidden_states=True).hidden_states[1][on] for m in (ours, theirs)]
    from kdlab.losses.inner_terms import hidden_distance

    wanted = hidden_distance(*told, term.distance).sum()
    torch.testing.assert_close(sums["hidden"], wanted, rtol=1e-4, atol=1e-4)


def test_a_filler_weighs_nothing():
    ours, theirs = pair("llama", "llama")
    inner = InnerLayers(InnerConfig(hidden=HiddenTerm()), split_of(ours), split_of(theirs), seed=0)
    ours.eval()
    two = decisions((5, 5))
    labels = two.labels_BT.clone()
    labels[1] = -100
    one = decisions((5,))
    found = terms(inner, ours, theirs, dataclasses.replace(two, labels_BT=labels))[0]
    torch.testing.assert_close(found, terms(inner, ours, theirs, one)[0], rtol=1e-4, atol=1e-5)
    numbers = torch.tensor([[0.5], [float("nan")]])
    found = terms(inner, ours, theirs, dataclasses.replace(two, labels_BT=numbers))[0]
    torch.testing.assert_close(found, terms(inner, ours, theirs, one)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "back"), [("llama", True), ("gpt2", True), ("bert", False)])
def test_which_attention_looks_back(kind, back):
    model = load_classifier(f"tiny:{kind}", task=TASK, fresh_head=True)
    layer = {"llama": "model.layers.0", "gpt2": "transformer.h.0", "bert": "bert.encoder.layer.0"}[kind]
    attention = self_attention(model, layer, option="inner.relation").module
    assert looks_back(attention, model) is back
    if hasattr(attention, "is_causal"):
        del attention.is_causal
    assert looks_back(attention, model) is back


def test_an_adapted_student_is_listened_to():
    student = build_student(StudentConfig(path="tiny:llama", lora=LoraConfig(r=2)), None, None, seed=0, task=TASK).model
    teacher = load_classifier("tiny:llama", task=TASK, fresh_head=True)
    inner = InnerLayers(InnerConfig(hidden=HiddenTerm()), split_of(student), split_of(teacher), seed=0)
    shaken(student)
    loss, _ = terms(inner, student, teacher, decisions())
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for n, p in student.named_parameters() if "lora_" in n)


def test_two_tokenizers_have_no_positions_in_common():
    spec = byte_tokenizer().backend_tokenizer.to_str()
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(spec), pad_token="<eos>")
    model = load_classifier("tiny:llama", task=TASK, fresh_head=True)
    teacher = LiveTeacher(model, byte_tokenizer(), description="tiny")
    config = TrainConfig(inner=InnerConfig(hidden=HiddenTerm()))
    refuse_inner(config, teacher, Student(model=model, tokenizer=byte_tokenizer(), description="tiny"))
    with pytest.raises(ValueError, match=r"inner\.hidden: .*different tokenizers: choose inner=none"):
        refuse_inner(config, teacher, Student(model=model, tokenizer=other, description="tiny"))
