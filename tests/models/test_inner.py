"""InnerLayers on real architectures: the terms are the formulas over what transformers itself tells."""

from __future__ import annotations

import gc
import re
import weakref

import pytest
import torch
from architectures import random_model
from encoder_decoders import random_seq2seq, seq2seq_batch
from peft import LoraConfig, get_peft_model
from torch import nn

from kdlab.batch import Batch
from kdlab.losses.anneal import Anneal
from kdlab.losses.inner import AttentionTerm, HiddenTerm, InnerConfig, RelationTerm
from kdlab.models.head import SplitModel
from kdlab.models.inner import InnerLayers
from kdlab.models.tiny import tiny_model
from kdlab.rows import IGNORE

SMALL = {"llama": "num_attention_heads", "gpt2": "n_head", "opt": "num_attention_heads", "gptj": "n_head"}


def batch(*, left=False):
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 97, (2, 7), generator=draw)
    labels, mask = ids.clone(), torch.ones_like(ids)
    gap = slice(0, 2) if left else slice(5, 7)
    labels[:, 0] = labels[1, gap] = IGNORE
    mask[1, gap] = 0
    return Batch(input_ids_BT=ids, labels_BT=labels, attention_mask_BT=mask)


def build(student, teacher, seed=0, **terms):
    inner = InnerLayers(InnerConfig(**terms), SplitModel(student), SplitModel(teacher), seed=seed)
    student.eval()
    return inner


def read(inner, step, student, teacher, *, progress=0.0, count=1.0):
    """As a training step does it: the loss and the sums."""
    ours, theirs = SplitModel(student), SplitModel(teacher)
    with inner.listening():
        ours.hidden(step)
        with torch.no_grad():
            theirs.hidden(step)
        return inner.loss(step, progress=progress, count=count)


def told(model, step):
    """What transformers tells: hidden states behind each layer and maps, by part of the model."""
    model.set_attn_implementation("eager")
    inputs = step.model_inputs()
    asked = {"output_hidden_states": True, "output_attentions": True, "use_cache": False}
    with torch.no_grad():
        if not model.config.is_encoder_decoder:
            out = model(**inputs, **asked)
            return {"": (out.hidden_states[1:], out.attentions)}
        out = model(**inputs, labels=step.labels_BT, **asked)
    return {
        "encoder": (out.encoder_hidden_states[1:], out.encoder_attentions),
        "decoder": (out.decoder_hidden_states[1:], out.decoder_attentions),
    }


def kl_of_maps(student, teacher):
    if student.shape[1] != teacher.shape[1]:
        student, teacher = student.mean(1, keepdim=True), teacher.mean(1, keepdim=True)
    logs = teacher.double().clamp(min=1e-37).log() - student.double().clamp(min=1e-37).log()
    return torch.where(teacher > 0, teacher * logs, 0.0).sum(-1).mean(1)


def positions(step, part):
    return step.labels_BT != IGNORE if part == "decoder" else step.attention_mask_BT.bool()


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "gpt_neo", "gptj", "phi", "qwen3", "gemma2"])
def test_terms_are_over_what_transformers_tells(name, left):
    layers, fewer = (4, 2), {SMALL[name]: 2} if name in SMALL else {}
    if name == "llama":
        fewer["num_key_value_heads"] = 1
    teacher, student = random_model(name, layers=layers[0]), random_model(name, layers=layers[1], seed=1, **fewer)
    step = batch(left=left)
    # The last layer's state is told behind the final norm only, so the layers before it are compared.
    inner = build(student, teacher, hidden=HiddenTerm(map=[[0, 2]]), attention=AttentionTerm())
    _, sums = read(inner, step, student, teacher)
    (ours, our_maps), (theirs, their_maps) = told(student, step)[""], told(teacher, step)[""]
    on = step.attention_mask_BT.bool()
    hidden = (ours[0] - theirs[2]).square().mean(-1)[on].sum()
    maps = sum(kl_of_maps(our_maps[i], their_maps[j])[on].sum() for i, j in [(0, 1), (1, 3)]) / 2
    assert sums["hidden"].item() == pytest.approx(hidden.item(), rel=1e-4)
    assert sums["attention"].item() == pytest.approx(maps.item(), rel=1e-3)


@pytest.mark.parametrize("family", ["t5", "flan_t5", "bart", "pegasus", "marian"])
def test_encoder_and_decoder_count_together(family):
    teacher, student = random_seq2seq(family, layers=3), random_seq2seq(family, layers=2, seed=1)
    step = seq2seq_batch()
    inner = build(student, teacher, attention=AttentionTerm(distance="mse"), relation=RelationTerm(of=["value"]))
    loss, sums = read(inner, step, student, teacher, count=step.tokens)
    ours, theirs, expected = told(student, step), told(teacher, step), 0.0
    for part in ("encoder", "decoder"):
        on = positions(step, part)
        for i, j in [(0, 1), (1, 2)]:  # round((0 + 1) 3 / 2) - 1 = 1, halves up
            expected += (ours[part][1][i] - theirs[part][1][j]).square().sum(-1).mean(1)[on].sum().item() / 2
    assert sums["attention"].item() == pytest.approx(expected, rel=1e-4)
    assert loss.item() == pytest.approx((sums["attention"] + sums["relation"]).item() / step.tokens, rel=1e-5)
    assert sums["relation"] > 0
    wider = read(inner, seq2seq_batch(wider=3), student, teacher)[1]
    for name, value in sums.items():
        assert wider[name].item() == pytest.approx(value.item(), rel=1e-4), name


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neo"])
def test_relation_of_queries_keys_and_values(name):
    teacher, student = (random_model(name, layers=2, seed=seed, initializer_range=0.2) for seed in range(2))
    step = batch()
    inner = build(student, teacher, relation=RelationTerm(heads=2))
    _, sums = read(inner, step, student, teacher)
    gathered = [features(model, step) for model in (student, teacher)]
    assert sums["relation"].item() == pytest.approx(sum(map(plain_relation, *gathered)), rel=1e-4)


def features(model, step):
    """Queries, keys and values of the last layer, by hooks of the test's own."""
    heard = {}
    for name, module in model.named_modules():
        if re.search(r"\.1\..*(q_proj|k_proj|v_proj|c_attn)$", name):
            module.register_forward_hook(lambda _m, _a, out, name=name: heard.update({name: out.detach()}))
    with torch.no_grad():
        model(**step.model_inputs(), use_cache=False)
    found = [heard[name] for name in sorted(heard, key=lambda name: "qkv".index(name[-6] if "_proj" in name else "q"))]
    return found if len(found) == 3 else list(found[0].chunk(3, dim=-1))


def plain_relation(student, teacher):
    """Heads 2, right padding of two in the second row."""
    total = 0.0
    for b, time in ((0, 7), (1, 5)):
        for t in range(time):
            for half in range(2):
                logs = []
                for side in (teacher, student):
                    a = side[b].chunk(2, dim=-1)[half]
                    logs.append((a[: t + 1] @ a[t] / a.shape[-1] ** 0.5).log_softmax(0))
                total += (logs[0].exp() * (logs[0] - logs[1])).sum().item() / 2
    return total


def test_padding_on_either_side_changes_nothing():
    teacher, student = tiny_model("llama", seed=1), tiny_model("llama", seed=2, hidden=32, layers=1)
    terms = {"hidden": HiddenTerm(), "attention": AttentionTerm(), "relation": RelationTerm()}
    inner = build(student, teacher, **terms)
    ids = torch.randint(3, 200, (1, 5), generator=torch.Generator().manual_seed(0))

    def sums(before, after):
        def pad(value, fill):
            return nn.functional.pad(value, (before, after), value=fill)

        mask = pad(torch.ones_like(ids), 0)
        step = Batch(input_ids_BT=pad(ids, 0), labels_BT=pad(ids, IGNORE), attention_mask_BT=mask)
        return read(inner, step, student, teacher)[1]

    bare = sums(0, 0)
    for padded in (sums(0, 3), sums(2, 0)):
        for name, value in bare.items():
            assert padded[name].item() == pytest.approx(value.item(), rel=2e-4), name


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_packed_documents_are_as_apart_as_rows(kind):
    teacher, student = tiny_model(kind, seed=1), tiny_model(kind, seed=2, hidden=32, layers=1)
    terms = {"hidden": HiddenTerm(), "attention": AttentionTerm(), "relation": RelationTerm()}
    inner = build(student, teacher, **terms)
    draw = torch.Generator().manual_seed(0)
    documents = [torch.randint(3, 200, (n,), generator=draw) for n in (4, 6)]
    apart = [read(inner, Batch(input_ids_BT=d[None], labels_BT=d[None]), student, teacher)[1] for d in documents]
    ids = torch.cat([*documents, torch.zeros(2, dtype=torch.long)])[None]
    labels = ids.clone()
    labels[:, [0, 4, 10, 11]] = IGNORE
    places = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 0, 1]])
    step = Batch(input_ids_BT=ids, labels_BT=labels, position_ids_BT=places, padding=2)
    for name, value in read(inner, step, student, teacher)[1].items():
        assert value.item() == pytest.approx(sum(sums[name].item() for sums in apart), rel=2e-4), name


def test_a_row_without_a_label_is_filler():
    teacher, student = tiny_model("llama", seed=1), tiny_model("llama", seed=2)
    inner = build(student, teacher, hidden=HiddenTerm())
    ids = torch.full((1, 1), 0)
    step = Batch(input_ids_BT=ids, labels_BT=ids + IGNORE, attention_mask_BT=ids + 1)
    loss, sums = read(inner, step, student, teacher)
    assert sums["hidden"] == 0
    loss.backward()


def test_projections_where_widths_differ_or_on_request():
    teacher, narrow, same = tiny_model("llama", seed=1), tiny_model("llama", hidden=32), tiny_model("llama")
    before = torch.get_rng_state()
    first, second = (build(narrow, teacher, hidden=HiddenTerm(), seed=3) for _ in range(2))
    other = build(narrow, teacher, hidden=HiddenTerm(), seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    shapes = {name: tuple(p.shape) for name, p in first.named_parameters()}
    assert shapes == {"projections.0.weight": (64, 32), "projections.1.weight": (64, 32)}
    for ours, again, seeded in zip(first.parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, again)
        assert not torch.equal(ours, seeded)
    assert list(first.learned()) == ["model.layers.0 -> model.layers.0", "model.layers.1 -> model.layers.1"]
    assert list(build(same, teacher, hidden=HiddenTerm()).parameters()) == []
    assert len(list(build(same, teacher, hidden=HiddenTerm(project=True)).parameters())) == 2
    assert list(build(same, teacher, relation=RelationTerm()).parameters()) == []


def test_weights_move():
    teacher, student = tiny_model("llama", seed=1), tiny_model("llama", seed=2)
    term = HiddenTerm(weight=2.0, anneal=Anneal(to=0.0), distance="cosine")
    inner = build(student, teacher, hidden=term)
    for progress, weight in ((0.0, 2.0), (0.25, 1.5), (1.0, 0.0)):
        loss, sums = read(inner, batch(), student, teacher, progress=progress, count=12.0)
        assert loss.item() == pytest.approx(weight * sums["hidden"].item() / 12, abs=1e-7)


def test_nothing_outlives_the_listening():
    teacher, student = tiny_model("llama", seed=1), tiny_model("llama", seed=2, hidden=32)
    terms = {"hidden": HiddenTerm(), "attention": AttentionTerm(), "relation": RelationTerm()}
    inner = build(student, teacher, **terms)
    ours, theirs, seen = SplitModel(student), SplitModel(teacher), []
    watched = [model.model.layers[0] for model in (student, teacher)]
    watched += [model.model.layers[-1].self_attn.q_proj for model in (student, teacher)]
    handles = [m.register_forward_hook(lambda _m, _a, out: seen.append(weakref.ref(out))) for m in watched]
    with inner.listening():
        ours.hidden(batch())
        with torch.no_grad():
            theirs.hidden(batch())
        gc.collect()
        assert len(seen) == 4
        assert all(ref() is not None for ref in seen)
        loss, _ = inner.loss(batch(), progress=0.0, count=1.0)
    for handle in handles:
        handle.remove()
    loss.backward()
    del loss
    gc.collect()
    assert all(ref() is None for ref in seen)
    assert not any(module._forward_hooks for model in (student, teacher) for module in model.modules())
    with pytest.raises(AssertionError, match="listening"):
        inner.loss(batch(), progress=0.0, count=1.0)


def test_hooks_go_with_an_error_too():
    teacher, student = tiny_model("llama", seed=1), tiny_model("llama", seed=2)
    inner = build(student, teacher, hidden=HiddenTerm())
    with pytest.raises(KeyError), inner.listening():
        raise KeyError
    assert not any(module._forward_hooks for model in (student, teacher) for module in model.modules())
    read(inner, batch(), student, teacher)


def test_a_lora_student_learns_through_its_adapters():
    teacher, student = tiny_model("llama", seed=1), tiny_model("llama", seed=2)
    adapted = get_peft_model(student, LoraConfig(r=2, target_modules="all-linear"))
    terms = {"hidden": HiddenTerm(), "attention": AttentionTerm(), "relation": RelationTerm()}
    inner = build(adapted, teacher, **terms)
    assert inner.pairs["relation"][0].student == "model.layers.1"
    loss, _ = read(inner, batch(), adapted, teacher)
    loss.backward()
    gradients = {name: p.grad for name, p in adapted.named_parameters() if p.requires_grad and p.grad is not None}
    assert any("q_proj.lora_B" in name and g.abs().sum() > 0 for name, g in gradients.items())


def test_attention_dropout_goes_and_other_dropout_stays(capsys):
    teacher = random_model("gpt2", layers=2)
    student = random_model("gpt2", layers=2, attn_pdrop=0.5, resid_pdrop=0.25)
    inner = InnerLayers(
        InnerConfig(attention=AttentionTerm(map="last")), SplitModel(student), SplitModel(teacher), seed=0
    )
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert "student and teacher attend eagerly" in told[0]
    assert "drop no attention" in told[0]
    first, last = (block.attn for block in student.transformer.h)
    assert (first.attn_dropout.p, last.attn_dropout.p, last.resid_dropout.p) == (0.5, 0.0, 0.25)
    student.train()
    read(inner, batch(), student, teacher)


def test_heads_of_relations():
    wide, narrow = random_model("llama"), random_model("llama", hidden_size=24)  # keys: 2 of 8, and 2 of 6 features
    assert build(narrow, wide, relation=RelationTerm()).heads == 4
    assert build(narrow, wide, relation=RelationTerm(of=["query"])).heads == 4
    assert build(narrow, wide, relation=RelationTerm(heads=2)).heads == 2
    with pytest.raises(ValueError, match=r"inner.relation.heads=8: does not divide the 12 key features of the student"):
        build(narrow, wide, relation=RelationTerm(heads=8))


def test_what_cannot_be_had_is_refused():
    model = tiny_model("llama")
    with pytest.raises(
        ValueError, match=r"inner.hidden: lm_head gives no hidden states .the student, LlamaForCausalLM"
    ):
        build(model, model, hidden=HiddenTerm(map={"lm_head": "lm_head"}))
    recurrent = random_mamba()
    for name, term in (("attention", AttentionTerm()), ("relation", RelationTerm())):
        with pytest.raises(ValueError, match=rf"inner.{name}: backbone.layers.. of mamba has no self-attention"):
            build(recurrent, recurrent, **{name: term})
    build(recurrent, recurrent, hidden=HiddenTerm())


def random_mamba():
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {"vocab_size": 97, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 2}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("mamba", **fields)).eval()
