"""The training step: however its examples are cut into micro-batches (and ranks), it is the same step."""

from __future__ import annotations

import csv
from itertools import pairwise

import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn.functional import nll_loss, pad
from two_ranks import train_by_two

from kdlab.batch import Batch
from kdlab.losses import LOSSES
from kdlab.losses.engine import row_loss
from kdlab.models.head import SplitModel
from kdlab.models.tiny import byte_tokenizer, tiny_model
from kdlab.rows import IGNORE
from kdlab.teachers.live import LiveTeacher
from kdlab.training.device import quiet_libraries
from kdlab.training.module import Distiller
from kdlab.training.optimizers import SGD
from kdlab.training.pair import ModelPair

LENGTHS = (12, 3, 7, 12, 5, 9, 2, 10)


def examples() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Ids and labels of different lengths; the prompt, a third of each, is not supervised."""
    draw = torch.Generator().manual_seed(0)
    pairs = []
    for length in LENGTHS:
        ids = torch.randint(3, 200, (length,), generator=draw)
        labels = ids.clone()
        labels[: length // 3] = IGNORE
        pairs.append((ids, labels))
    return pairs


def batch(chosen: list[tuple[torch.Tensor, torch.Tensor]]) -> Batch:
    width = max(len(ids) for ids, _ in chosen)
    return Batch(
        input_ids_BT=torch.stack([pad(ids, (0, width - len(ids))) for ids, _ in chosen]),
        labels_BT=torch.stack([pad(labels, (0, width - len(ids)), value=IGNORE) for ids, labels in chosen]),
        attention_mask_BT=torch.stack([pad(torch.ones_like(ids), (0, width - len(ids))) for ids, _ in chosen]),
        example_ids=tuple(range(len(chosen))),
    )


def pairs_of_texts() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Sources and targets of different lengths, for an encoder and a decoder."""
    draw = torch.Generator().manual_seed(0)
    sizes = zip(LENGTHS, reversed(LENGTHS), strict=True)
    return [tuple(torch.randint(3, 200, (length,), generator=draw) for length in both) for both in sizes]


def seq2seq_batch(chosen: list[tuple[torch.Tensor, torch.Tensor]]) -> Batch:
    wide, long = (max(len(pair[side]) for pair in chosen) for side in (0, 1))
    return Batch(
        input_ids_BT=torch.stack([pad(source, (0, wide - len(source))) for source, _ in chosen]),
        attention_mask_BT=torch.stack([pad(torch.ones_like(source), (0, wide - len(source))) for source, _ in chosen]),
        labels_BT=torch.stack([pad(target, (0, long - len(target)), value=IGNORE) for _, target in chosen]),
        example_ids=tuple(range(len(chosen))),
        shift=False,
    )


def double(seed: int, kind: str = "llama"):
    return tiny_model(kind, seed=seed).double()


def teacher(kind: str = "llama") -> LiveTeacher:
    return LiveTeacher(double(1, kind), byte_tokenizer(), description="tiny")


def one_step(job, step, *, loss, taught=True, kind="llama", **options):
    """The gradients that one optimiser step over `step` sees, and its result."""
    seen: dict[str, torch.Tensor] = {}

    class Recorder(Distiller):
        def on_before_optimizer_step(self, optimizer):
            seen.update({n: p.grad.clone() for n, p in self.student.named_parameters() if p.grad is not None})
            super().on_before_optimizer_step(optimizer)

    config = job(loss=loss, optimizer=SGD(lr=1e-3), clip=0.0, **options)
    pair = ModelPair(split=SplitModel(double(2, kind)), teacher=teacher(kind) if taught else None)
    module = Recorder(config, pair, total_steps=1)
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
    return seen, module


@pytest.mark.parametrize("name", ["forward_kl", "hard"])
def test_8_micro_batches_of_1_are_1_of_8_exactly(job, name):
    pairs, loss = examples(), LOSSES[name](hard_weight=1.0 if name == "hard" else 0.3)
    whole, module = one_step(job, [batch(pairs)], loss=loss)
    for sizes in [(1,) * 8, (3, 3, 2)]:
        cuts = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
        parts, other = one_step(job, [batch(pairs[a:b]) for a, b in pairwise(cuts)], loss=loss)
        assert other.result.rows == module.result.rows == sum(n - max(n // 3, 1) for n in LENGTHS)
        assert other.result.tokens == sum(LENGTHS)
        assert other.result.loss == pytest.approx(module.result.loss, rel=1e-12)
        assert other.result.gradient_norm == pytest.approx(module.result.gradient_norm, rel=1e-12)
        assert whole.keys() == parts.keys()
        for key, gradient in whole.items():
            torch.testing.assert_close(parts[key], gradient, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_8_micro_batches_of_1_are_1_of_8_for_encoder_decoders_too(job, kind):
    pairs, loss = pairs_of_texts(), LOSSES["forward_kl"](hard_weight=0.3)
    whole, module = one_step(job, [seq2seq_batch(pairs)], loss=loss, kind=kind)
    for sizes in [(1,) * 8, (3, 3, 2)]:
        cuts = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
        step = [seq2seq_batch(pairs[a:b]) for a, b in pairwise(cuts)]
        parts, other = one_step(job, step, loss=loss, kind=kind, gradient_checkpointing=sizes == (3, 3, 2))
        assert other.result.rows == module.result.rows == sum(LENGTHS)
        assert other.result.tokens == 2 * sum(LENGTHS)
        assert other.result.loss == pytest.approx(module.result.loss, rel=1e-12)
        assert other.result.gradient_norm == pytest.approx(module.result.gradient_norm, rel=1e-12)
        for key, gradient in whole.items():
            torch.testing.assert_close(parts[key], gradient, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_encoder_decoders_step_is_autograd_of_the_plain_formula(job, kind):
    """Each pair alone, without padding, by transformers' own `labels`."""
    pairs = pairs_of_texts()
    seen, module = one_step(job, [seq2seq_batch(pairs)], loss=LOSSES["forward_kl"](hard_weight=0.25), kind=kind)
    student, frozen, terms = double(2, kind), teacher(kind).model, []
    for source, target in pairs:
        asked = {"input_ids": source[None], "labels": target[None]}
        q, p = (model(**asked).logits[0].log_softmax(-1) for model in (student, frozen))
        terms.append(0.75 * (p.exp() * (p - q)).sum(-1) + 0.25 * nll_loss(q, target, reduction="none"))
    loss = torch.cat(terms).mean()
    loss.backward()
    assert module.result.loss == pytest.approx(loss.item(), rel=1e-9)
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(seen[name], parameter.grad, rtol=1e-7, atol=1e-12)


def test_the_step_is_autograd_of_the_plain_formula(job):
    pairs = examples()
    seen, module = one_step(job, [batch([pair]) for pair in pairs], loss=LOSSES["forward_kl"](hard_weight=0.25))
    student, frozen, terms, divergences = double(2), teacher().model, [], []
    for ids, labels in pairs:
        q = student(ids[None]).logits[0, :-1].log_softmax(-1)
        p = frozen(ids[None]).logits[0, :-1].detach().log_softmax(-1)
        on = labels[1:] != IGNORE
        kl = (p.exp() * (p - q)).sum(-1)[on]
        ce = nll_loss(q[on], labels[1:][on], reduction="none")
        terms.append(0.75 * kl + 0.25 * ce)
        divergences.append(kl.detach())
    loss = torch.cat(terms).mean()
    loss.backward()
    assert module.result.loss == pytest.approx(loss.item(), rel=1e-9)
    assert module.result.divergence == pytest.approx(torch.cat(divergences).mean().item(), rel=1e-9)
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(seen[name], parameter.grad, rtol=1e-7, atol=1e-12)


def test_gradient_checkpointing_changes_no_gradient(job):
    step, loss = [batch(examples())], LOSSES["forward_kl"]()
    plain, _ = one_step(job, step, loss=loss)
    checkpointed, module = one_step(job, step, loss=loss, gradient_checkpointing=True)
    assert module.student.is_activation_checkpointing
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(("kind", "near"), [("llama", 0.03), ("t5", 0.12)])  # T5's own attention, unscaled, is rounder
def test_mixed_precision_reaches_the_head_and_stays_near_float32(kind, near):
    loss = LOSSES["forward_kl"](temperature=2.0, hard_weight=0.3)
    step = batch(examples()) if kind == "llama" else seq2seq_batch(pairs_of_texts())
    taught = LiveTeacher(tiny_model(kind, seed=1), byte_tokenizer(), description="tiny")
    values, gradients = [], []
    for narrow in (False, True):
        student = tiny_model(kind, seed=2)
        pair = ModelPair(split=SplitModel(student), teacher=taught)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
            rows = pair.rows(step)
        assert rows.student.hidden_NH.dtype == (torch.bfloat16 if narrow else torch.float32)
        assert rows.teacher.hidden_NH.dtype == torch.float32
        out = row_loss(loss, rows, count=len(rows)).loss
        out.backward()
        values.append(out.item())
        gradients.append(torch.cat([p.grad.flatten() for p in student.parameters()]))
    exact, mixed = gradients
    assert values[1] == pytest.approx(values[0], rel=0.005)
    assert (mixed - exact).norm() <= near * exact.norm()


def test_a_step_without_a_supervised_row_changes_nothing(job):
    ids = torch.randint(3, 200, (2, 5))
    empty = Batch(input_ids_BT=ids, labels_BT=torch.full_like(ids, IGNORE))
    seen, module = one_step(job, [empty], loss=LOSSES["forward_kl"]())
    assert (module.result.rows, module.result.loss, module.result.gradient_norm) == (0, 0.0, 0.0)
    assert all(gradient.count_nonzero() == 0 for gradient in seen.values())


def test_the_teacher_is_neither_part_of_the_module_nor_changed_by_it(job):
    _, module = one_step(job, [batch(examples())], loss=LOSSES["forward_kl"]())
    assert all(name.startswith("student.") for name in module.state_dict())
    taught = dict(teacher().model.named_parameters())
    for name, parameter in module.pair.teacher.model.named_parameters():
        assert torch.equal(parameter, taught[name])
        assert parameter.grad is None
    own = {id(p) for p in module.parameters()}
    assert not any(id(p) in own for p in module.pair.teacher.model.parameters())


def test_without_a_teacher_labels_teach(job):
    seen, module = one_step(job, [batch(examples())], loss=LOSSES["hard"](hard_weight=1.0), taught=False)
    assert module.result.divergence is None
    assert module.result.hard == pytest.approx(module.result.loss)
    assert seen


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_two_ranks_of_4_are_one_of_8(job, start, tmp_path):
    options = {"max_steps": 3, "accumulate": 2, "evaluate_every": 3, "ema": 0.9}
    start(job(batch_size=8, **options), tmp_path / "one")
    assert train_by_two(job(batch_size=4, devices=2, **options), tmp_path / "two") == [0, 0]
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert [(row["step"], row["phase"], row["rows"], row["tokens"]) for row in one] == [
        (row["step"], row["phase"], row["rows"], row["tokens"]) for row in two
    ]
    for column in ("loss", "divergence", "gradient_norm", "kl", "nll"):
        ours = [float(row[column]) for row in two if row[column]]
        assert ours == pytest.approx([float(row[column]) for row in one if row[column]], rel=2e-5), column
