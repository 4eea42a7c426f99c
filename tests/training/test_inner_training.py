"""Inner terms in the training step and in whole runs."""

from __future__ import annotations

import csv
import json
from itertools import pairwise

import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import load_file
from torch.nn.functional import linear, nll_loss, pad

from kdlab.batch import Batch
from kdlab.config import ConfigError, load
from kdlab.losses import LOSSES
from kdlab.losses.anneal import Anneal
from kdlab.losses.inner import AttentionTerm, HiddenTerm, InnerConfig, RelationTerm
from kdlab.models.head import SplitModel
from kdlab.models.student import StudentConfig
from kdlab.models.tiny import byte_tokenizer, tiny_config, tiny_model
from kdlab.rows import IGNORE
from kdlab.teachers.live import LiveTeacher
from kdlab.training.device import quiet_libraries
from kdlab.training.module import Distiller, inner_layers
from kdlab.training.optimizers import SGD, AdamW
from kdlab.training.pair import ModelPair

LENGTHS = (12, 3, 7, 12, 5, 9, 2, 10)
TARGETS = (4, 9, 2, 7, 1, 5, 3, 6)


def drawn():
    draw = torch.Generator().manual_seed(0)
    return [[torch.randint(3, 200, (n,), generator=draw) for n in lengths] for lengths in (LENGTHS, TARGETS)]


def stacked(texts, fill):
    width = max(map(len, texts))
    return torch.stack([pad(ids, (0, width - len(ids)), value=fill) for ids in texts])


def batch(a=0, b=8, *, seq2seq=False):
    texts, targets = (side[a:b] for side in drawn())
    labels = targets if seq2seq else [torch.cat([ids.new_full((1,), IGNORE), ids[1:]]) for ids in texts]
    return Batch(
        input_ids_BT=stacked(texts, 0),
        labels_BT=stacked(labels, IGNORE),
        attention_mask_BT=stacked([torch.ones_like(ids) for ids in texts], 0),
        example_ids=tuple(range(a, b)),
        shift=not seq2seq,
    )


def models(kind="llama"):
    """A student of half the width and half the layers, and a teacher, in float64."""
    return tiny_model(kind, seed=2, hidden=32).double(), tiny_model(kind, seed=1, layers=4).double()


def everything():
    return InnerConfig(
        hidden=HiddenTerm(weight=0.5), attention=AttentionTerm(weight=2.0), relation=RelationTerm(weight=0.25)
    )


def one_step(job, step, *, kind="llama", inner=None, **options):
    """Gradients that one optimiser step over `step` sees, the module, and its projections before the step."""
    seen: dict[str, torch.Tensor] = {}

    class Recorder(Distiller):
        def on_before_optimizer_step(self, optimizer):
            seen.update({n: p.grad.clone() for n, p in self.named_parameters() if p.grad is not None})
            super().on_before_optimizer_step(optimizer)

    student, teacher = models(kind)
    config = job(
        loss=LOSSES["forward_kl"](hard_weight=0.25),
        inner=inner or everything(),
        optimizer=SGD(lr=1e-3),
        **{"clip": 0.0} | options,
    )
    pair = ModelPair(split=SplitModel(student), teacher=LiveTeacher(teacher, byte_tokenizer(), description="tiny"))
    module = Recorder(config, pair, inner=inner_layers(config, pair), total_steps=1)
    projections = [weight.detach().clone().requires_grad_() for weight in module.inner.parameters()]
    with quiet_libraries():
        trainer = Trainer(
            max_steps=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, train_dataloaders=torch.utils.data.DataLoader([step], batch_size=None))
    return seen, module, projections


def tell(model, ids):
    """Logits, what each layer gave, attention maps, and the last layer's queries, keys and values of one text."""
    model.set_attn_implementation("eager")
    layers = model.model.layers
    heard, handles = [], []
    attention = layers[-1].self_attn
    for module in (*layers, attention.q_proj, attention.k_proj, attention.v_proj):
        handles.append(module.register_forward_hook(lambda module, _, out: heard.append((module, out))))
    out = model(ids[None], output_attentions=True)
    for handle in handles:
        handle.remove()
    by_module = {id(module): value for module, value in heard}
    hidden = [by_module[id(layer)] for layer in layers]
    features = [by_module[id(module)] for module in (attention.q_proj, attention.k_proj, attention.v_proj)]
    return out.logits[0], [state[0] for state in hidden], [m[0] for m in out.attentions], [f[0] for f in features]


def kl(p, q):
    """Σ p (log p - log q) over the last dimension, from log-probabilities."""
    return (p.exp() * (p - q)).sum(-1)


def kl_of_maps(teacher, student):
    """Over the keys that a query may see, averaged over heads, summed over queries."""
    queries = [kl(teacher[:, t, : t + 1].log(), student[:, t, : t + 1].log()).mean() for t in range(teacher.shape[-1])]
    return torch.stack(queries).sum()


def relation(features, heads):
    """softmax(A Aᵀ / sqrt(d)), a query sees what is before it."""
    a = features.reshape(len(features), heads, -1).transpose(0, 1)
    scores = a @ a.transpose(1, 2) / a.shape[-1] ** 0.5
    late = torch.ones(len(features), len(features), dtype=torch.bool).triu(1)
    return scores.masked_fill(late, float("-inf")).softmax(-1)


def test_all_terms_together_are_autograd_of_the_plain_formulas(job):
    cuts = [batch(a, b) for a, b in pairwise((0, 3, 6, 8))]
    seen, module, projections = one_step(job, cuts)
    student, teacher = models()
    rows, sums = [], {"hidden": 0.0, "attention": 0.0, "relation": 0.0}
    for ids in drawn()[0]:
        logits, hidden, maps, features = tell(student, ids)
        with torch.no_grad():
            their_logits, their_hidden, their_maps, their_features = tell(teacher, ids)
        q, p = logits[:-1].log_softmax(-1), their_logits[:-1].log_softmax(-1)
        rows.append(0.75 * kl(p, q) + 0.25 * nll_loss(q, ids[1:], reduction="none"))
        for i, j in ((0, 1), (1, 3)):
            difference = linear(hidden[i], projections[i]) - their_hidden[j]
            sums["hidden"] += difference.square().mean(-1).sum() / 2
            sums["attention"] += kl_of_maps(their_maps[j], maps[i]) / 2
        for ours, theirs in zip(features, their_features, strict=True):
            sums["relation"] += kl_of_maps(relation(theirs, 4), relation(ours, 4))
    count = sum(LENGTHS)
    inner = 0.5 * sums["hidden"] + 2.0 * sums["attention"] + 0.25 * sums["relation"]
    loss = torch.cat(rows).mean() + inner / count
    loss.backward()
    assert module.result.loss == pytest.approx(loss.item(), rel=1e-9)
    for name, value in sums.items():
        assert getattr(module.result, name) == pytest.approx(value.item() / count, rel=1e-9)
    wanted = {f"student.{name}": p.grad for name, p in student.named_parameters()}
    wanted |= {f"inner.projections.{i}.weight": weight.grad for i, weight in enumerate(projections)}
    assert seen.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(seen[name], gradient, rtol=1e-7, atol=1e-11)


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_8_micro_batches_of_1_are_1_of_8_exactly(job, kind):
    seq2seq = kind == "t5"
    whole, module, _ = one_step(job, [batch(seq2seq=seq2seq)], kind=kind)
    tokens = sum(LENGTHS) + (sum(TARGETS) if seq2seq else 0)
    assert module.result.tokens == tokens
    for cuts in ((0, 1, 2, 3, 4, 5, 6, 7, 8), (0, 3, 6, 8)):
        step = [batch(a, b, seq2seq=seq2seq) for a, b in pairwise(cuts)]
        parts, other, _ = one_step(job, step, kind=kind)
        for name in ("loss", "hidden", "attention", "relation", "gradient_norm"):
            assert getattr(other.result, name) == pytest.approx(getattr(module.result, name), rel=1e-10), name
        assert parts.keys() == whole.keys()
        assert any(name.startswith("inner.projections") for name in parts)
        for name, gradient in whole.items():
            torch.testing.assert_close(parts[name], gradient, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_gradient_checkpointing_changes_no_gradient(job, kind):
    plain, _, _ = one_step(job, [batch()], kind=kind)
    again, module, _ = one_step(job, [batch()], kind=kind, gradient_checkpointing=True)
    assert module.student.is_activation_checkpointing
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-9, atol=1e-13)


def test_projections_are_clipped_along_and_step(job):
    plain, module, before = one_step(job, [batch()])
    norm = module.result.gradient_norm
    assert norm == pytest.approx(torch.cat([g.flatten() for g in plain.values()]).norm().item(), rel=1e-9)
    assert norm > 0.5
    _, clipped, _ = one_step(job, [batch()], clip=0.5)
    for old, new, held in zip(before, module.inner.parameters(), clipped.inner.parameters(), strict=True):
        moved, less = new - old, held - old
        assert moved.abs().sum() > 0
        torch.testing.assert_close(less, moved * (0.5 / norm), rtol=1e-4, atol=1e-12)


def test_mixed_precision_stays_near_float32(job):
    values = []
    for narrow in (False, True):
        student, teacher = tiny_model("llama", seed=2, hidden=32), tiny_model("llama", seed=1)
        pair = ModelPair(split=SplitModel(student), teacher=LiveTeacher(teacher, byte_tokenizer(), description="t"))
        config = job(inner=everything())
        module = Distiller(config, pair, inner=inner_layers(config, pair), total_steps=1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow), module.inner.listening():
            pair.rows(batch())
            loss, _ = module.inner.loss(batch(), progress=0.0, count=1.0)
        assert loss.dtype == torch.float32
        values.append(loss.item())
    assert values[1] == pytest.approx(values[0], rel=0.02)


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(file)]


def small(job, **options):
    """A student of another width, all terms, with a weight that moves."""
    scratch = tiny_config("llama", hidden=32, layers=1).to_diff_dict()
    inner = everything()
    inner.hidden = HiddenTerm(weight=1.0, anneal=Anneal(to=0.5))
    return job(student=StudentConfig(architecture=scratch), inner=inner, **options)


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_one_that_was_not(job, start, kill_after, tmp_path):
    config = small(job, ema=0.9)
    record = start(config, tmp_path / "whole")
    with kill_after(6):
        start(config, tmp_path / "killed")
    assert start(config, tmp_path / "killed")["resumed"] == 1
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    training = [row for row in rows(tmp_path / "whole") if row["loss"]]
    assert all(float(row[name]) > 0 for row in training for name in ("hidden", "attention", "relation"))
    for name in ("model/model.safetensors", "projections.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert record["files"]["projections"] == "projections.safetensors"
    assert json.loads((tmp_path / "whole" / "run.json").read_text())["files"]["projections"]
    learned = load_file(tmp_path / "whole" / "projections.safetensors")
    assert {name: tuple(w.shape) for name, w in learned.items()} == {"model.layers.0 -> model.layers.1": (64, 32)}
    checkpoint = torch.load(tmp_path / "whole" / "checkpoints" / "last.ckpt", weights_only=True)
    kept = checkpoint["state_dict"]["inner.projections.0.weight"]
    assert torch.equal(kept, learned["model.layers.0 -> model.layers.1"])
    assert not any(
        "inner" in name or "projection" in name for name in load_file(tmp_path / "whole/model/model.safetensors")
    )
    assert "eager" not in (tmp_path / "whole" / "model" / "config.json").read_text()


@pytest.mark.slow
def test_what_is_asked_for_falls(job, start, tmp_path):
    config = small(job, max_steps=20, batch_size=27, optimizer=AdamW(lr=0.01), loss=LOSSES["hard"]())
    start(config, tmp_path)
    first, *_, last = [row for row in rows(tmp_path) if row["loss"]]
    for name in ("hidden", "attention", "relation"):
        assert float(last[name]) < 0.95 * float(first[name]), name


def test_a_run_without_projections_writes_none(job, start, tmp_path):
    record = start(job(inner=InnerConfig(hidden=HiddenTerm()), max_steps=2), tmp_path)
    assert "projections" not in record["files"]
    assert not (tmp_path / "projections.safetensors").exists()


def test_a_layer_that_is_not_there_is_refused_before_the_data_is_built(job, start, tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("the data was built")

    monkeypatch.setattr("kdlab.training.session.build", never)
    inner = InnerConfig(hidden=HiddenTerm(map=[[0, 5]]))
    with pytest.raises(ValueError, match=r"inner\.hidden\.map=\[\[0, 5\]\]: the teacher's layers are 0 to 1"):
        start(job(inner=inner), tmp_path)


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (
            ["inner=hidden", "teacher=none", "loss=hard", "student=tiny"],
            ["inner.hidden: ", "teacher=none", "inner=none"],
        ),
        (["inner=relation", "loss=uld"], ["inner.relation: ", "loss=uld", "two tokenizers", "inner=none"]),
        (["inner=all", "inner.attention.distance=js"], ["inner.attention.distance=js", "kl, mse"]),
    ],
)
def test_pairs_that_inner_terms_do_not_fit(overrides, parts):
    with pytest.raises(ConfigError) as caught:
        load("train", ["experiment=smoke", "trainer.checkpoint.monitor=nll", *overrides])
    for part in parts:
        assert part in str(caught.value)


def test_options_by_the_command_line():
    given = ["inner.hidden.map=[[0,1]]", "inner.attention.anneal.to=0.1", "inner.relation.of=[value]"]
    inner = load("train", ["experiment=smoke", "inner=all", *given]).config.inner
    assert inner.hidden.map == [[0, 1]]
    assert inner.attention.anneal.to == 0.1
    assert inner.relation.kinds == ("value",)
    named = load("train", ["experiment=smoke", "inner=hidden", "inner.hidden.map={model.norm: model.norm}"])
    assert named.config.inner.hidden.map == {"model.norm": "model.norm"}
