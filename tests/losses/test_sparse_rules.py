"""Which losses read which sparse signal: the same words before a run and in it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from loss_cases import close, dense_case, make
from sparse_cases import keep, run_with
from torch import Tensor

from kdlab.losses import CROSS_LOSSES, LOSSES, RowLoss
from kdlab.losses.anneal import Anneal
from kdlab.losses.engine import row_loss
from kdlab.losses.sparse_rules import check_signal
from kdlab.rows import Rows, Sampled, TopK, cut, whole

CODECS = ["hidden", "dense", "topk", "sampled", "head_and_samples"]
SPARSE = CODECS[2:]


def sampled(temperature: float = 1.0) -> Sampled:
    return Sampled(
        ids_NK=torch.zeros(11, 1, dtype=torch.long),
        weight_NK=torch.ones(11, 1),
        vocabulary=23,
        temperature=temperature,
    )


def refusals(loss: RowLoss, signal: TopK | Sampled, *codecs: str, whole: bool = False) -> str:
    """The one message that comes before a run for each codec, and in it."""
    messages = set()
    for codec in codecs:
        with pytest.raises(ValueError, match="loss") as caught:
            check_signal(loss, codec=codec, temperature=signal.temperature, whole=whole)
        messages.add(str(caught.value))
    case = dense_case()
    with pytest.raises(ValueError, match="loss") as caught:
        row_loss(loss, Rows(student=case.student, teacher=signal, labels_N=case.labels_N), count=11)
    messages.add(str(caught.value))
    assert len(messages) == 1
    assert "\n" not in messages.copy().pop()
    return messages.pop()


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("forward_kl", "hard", "logit_mse")])
def test_draws_are_for_forward_kl(name: str) -> None:
    message = refusals(make(name), sampled(), "sampled", "head_and_samples")
    assert message.startswith(f"loss={name}: ")
    for remedy in ("loss=forward_kl", "codec=topk", "codec=hidden"):
        assert remedy in message


def test_logits_need_all_entries() -> None:
    case = dense_case()
    message = refusals(make("logit_mse"), keep(case.teacher, 5), "topk")
    assert message.startswith("loss=logit_mse: ")
    assert "codec=hidden" in message
    with pytest.raises(ValueError, match=r"^loss=logit_mse: .*log-probabilities"):
        check_signal(make("logit_mse"), codec="dense", temperature=1.0)
    check_signal(make("logit_mse"), codec="hidden", temperature=1.0)
    assert refusals(make("logit_mse"), sampled(), "sampled") == message
    assert refusals(make("logit_mse"), keep(case.teacher, 23), "topk", whole=True) == message


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl"])
def test_no_second_softening(name: str) -> None:
    case = dense_case()
    message = refusals(make(name, temperature=2.0), keep(case.teacher, 5, temperature=5.94), "topk")
    assert message.startswith("loss.temperature=2: ")
    for part in ("5.94", "loss.temperature=5.94", "codec.temperature=2", "codec=hidden"):
        assert part in message
    check_signal(make(name, temperature=5.94), codec="topk", temperature=5.94)
    check_signal(make(name, temperature=2.0), codec="topk", temperature=5.94, whole=True)
    with pytest.raises(ValueError, match="loss"):  # a head of all entries is still read as draws
        check_signal(make(name, temperature=2.0), codec="head_and_samples", temperature=5.94, whole=True)
    if name == "forward_kl":
        assert refusals(make(name, temperature=2.0), sampled(5.94), *SPARSE) == message


@pytest.mark.parametrize("codec", SPARSE)
def test_an_annealed_temperature_is_refused_before_the_run(codec: str) -> None:
    loss = make("forward_kl", temperature=1.0, temperature_anneal=Anneal(to=2.0))
    with pytest.raises(ValueError, match=r"^loss\.temperature_anneal: .*codec=hidden"):
        check_signal(loss, codec=codec, temperature=1.0)
    check_signal(make("forward_kl", hard_weight_anneal=Anneal(to=0.5)), codec=codec, temperature=1.0)


@pytest.mark.parametrize("codec", CODECS)
def test_labels_alone_read_nothing(codec: str) -> None:
    check_signal(make("hard"), codec=codec, temperature=7.0)
    check_signal(make("reverse_kl", hard_weight=1.0), codec=codec, temperature=7.0)
    case = dense_case()
    out, _ = run_with(case, sampled(7.0), make("reverse_kl", hard_weight=1.0))
    close(out.loss, case.run(make("hard"))[0].loss)


@pytest.mark.parametrize("name", [name for name in {**LOSSES, **CROSS_LOSSES} if name != "logit_mse"])
@pytest.mark.parametrize("codec", ["hidden", "dense"])
def test_whole_distributions_are_for_every_loss(name: str, codec: str) -> None:
    check_signal({**LOSSES, **CROSS_LOSSES}[name](temperature=3.0), codec=codec, temperature=1.0)


@pytest.mark.parametrize("name", list(CROSS_LOSSES))
def test_losses_between_tokenizers_need_whole_distributions(name: str) -> None:
    with pytest.raises(ValueError, match="codec=hidden") as caught:
        check_signal(CROSS_LOSSES[name](), codec="topk", temperature=1.0)
    with pytest.raises(ValueError, match="codec=hidden") as later:
        whole(sampled(), "a loss between two tokenizers")
    assert str(caught.value) == str(later.value)


def test_a_cut_vocabulary_needs_whole_distributions() -> None:
    with pytest.raises(ValueError, match=r"loss\.vocab=shared") as caught:
        check_signal(make("forward_kl", vocab="shared"), codec="topk", temperature=1.0)
    with pytest.raises(ValueError, match=r"loss\.vocab=shared") as later:
        cut(sampled(), 20)
    assert str(caught.value) == str(later.value)


@dataclass(kw_only=True)
class Squares(RowLoss):
    """½ Σ (q - p)², as a user would write it."""

    def divergence(self, student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
        return (student_NV.exp() - teacher_NV.exp()).square().sum(-1) / 2


def test_a_loss_of_ones_own_reads_the_top_and_is_named_where_it_is_refused() -> None:
    case = dense_case()
    out, _ = run_with(case, keep(case.teacher, 5), Squares())
    assert out.divergence > 0
    assert refusals(Squares(), sampled(), "sampled").startswith("loss=Squares: ")


def test_the_rules_import_no_torch() -> None:
    code = "import sys, kdlab.losses.sparse_rules; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
