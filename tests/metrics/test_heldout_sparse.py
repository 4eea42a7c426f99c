"""Held-out sums beside a teacher that tells of some tokens only, against plain float64 formulas over all tokens."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kdlab.metrics.heldout import RowSums, measure
from kdlab.rows import Dense, Rows, Sampled, TopK

V, K = 17, 4


def logits(n: int, seed: int) -> Tensor:
    return 2 * torch.randn(n, V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def keep(teacher_NV: Tensor, labels_N: Tensor, *, k: int = K, temperature: float = 1.0, label: bool = True) -> TopK:
    logp_NV = (teacher_NV / temperature).log_softmax(1)
    kept = logp_NV.topk(k)
    return TopK(
        ids_NK=kept.indices,
        logp_NK=kept.values,
        rest_N=logp_NV.scatter(1, kept.indices, -math.inf).logsumexp(1),
        vocabulary=V,
        temperature=temperature,
        logp_label_N=logp_NV.gather(1, labels_N[:, None])[:, 0] if label else None,
    )


def draw(teacher_NV: Tensor, labels_N: Tensor, *, draws: int = 8, seed: int = 0, entropy: bool = True) -> Sampled:
    p_NV = teacher_NV.softmax(1)
    drawn_ND = torch.multinomial(p_NV, draws, replacement=True, generator=torch.Generator().manual_seed(seed))
    weight_NV = torch.zeros_like(p_NV).scatter_add_(1, drawn_ND, torch.full_like(drawn_ND, 1 / draws, dtype=p_NV.dtype))
    kept = weight_NV.topk(draws)
    return Sampled(
        ids_NK=kept.indices,
        weight_NK=kept.values,
        vocabulary=V,
        entropy_N=-(p_NV * p_NV.log()).sum(1) if entropy else None,
        logp_label_N=p_NV.log().gather(1, labels_N[:, None])[:, 0],
    )


def some(n: int = 30) -> tuple[Rows, Tensor, Tensor, Tensor]:
    """Rows without a teacher, both sides' logits, and the labels."""
    student_NV, teacher_NV = logits(n, 0), logits(n, 1)
    labels_N = torch.randint(V, (n,), generator=torch.Generator().manual_seed(2))
    return Rows(student=Dense(logits_NV=student_NV), teacher=None, labels_N=labels_N), student_NV, teacher_NV, labels_N


def kl_of_merged_outcomes(student_NV: Tensor, teacher_NV: Tensor, k: int) -> float:
    """The mean over rows, token by token, in Python floats."""
    total = []
    for q_V, p_V in zip(student_NV.softmax(1).tolist(), teacher_NV.softmax(1).tolist(), strict=True):
        kept = sorted(range(V), key=lambda v: -p_V[v])[:k]
        others = [v for v in range(V) if v not in kept]
        pairs = [(p_V[v], q_V[v]) for v in kept]
        pairs.append((math.fsum(p_V[v] for v in others), math.fsum(q_V[v] for v in others)))
        total.append(math.fsum(p * math.log(p / q) for p, q in pairs))
    return math.fsum(total) / len(total)


@pytest.mark.parametrize("k", [1, K, V - 1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_of_the_top_the_kl_is_over_merged_outcomes_and_the_rest_exact(k: int, dtype: torch.dtype) -> None:
    alone, student_NV, teacher_NV, labels_N = some()
    student = Dense(logits_NV=student_NV.to(dtype))
    top = keep(teacher_NV, labels_N, k=k)
    sums = measure(replace(alone, student=student, teacher=top), chunk_rows=7)
    whole = measure(replace(alone, teacher=Dense(logits_NV=teacher_NV))).result()
    expected = whole | {"kl": kl_of_merged_outcomes(student_NV, teacher_NV, k)}
    assert sums.result() == pytest.approx(expected, rel=1e-9 if dtype == torch.float64 else 1e-5)
    assert list(sums.result()) == list(whole)
    assert sums.kl_is == "lower bound"
    assert 0 < sums.result()["kl"] <= whole["kl"] * (1 + 1e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_all_entries_are_the_dense_teacher(temperature: float) -> None:
    alone, _, teacher_NV, labels_N = some()
    top = keep(teacher_NV, labels_N, k=V, temperature=temperature, label=False)
    sums, whole = (measure(replace(alone, teacher=side)) for side in (top, Dense(logits_NV=teacher_NV)))
    assert sums.result() == pytest.approx(whole.result(), rel=1e-9)
    assert sums.kl_is is None


def test_of_draws_the_kl_is_right_on_average_and_there_is_no_agreement() -> None:
    alone, student_NV, teacher_NV, labels_N = some()
    sums = measure(replace(alone, teacher=draw(teacher_NV, labels_N)), chunk_rows=7)
    whole = measure(replace(alone, teacher=Dense(logits_NV=teacher_NV))).result()
    sampled = draw(teacher_NV, labels_N)
    assert sampled.entropy_N is not None
    w_NV = torch.zeros(30, V, dtype=torch.float64).scatter_add(1, sampled.ids_NK, sampled.weight_NK)
    kl = float(((-w_NV * student_NV.log_softmax(1)).sum(1) - sampled.entropy_N).mean())
    expected = {name: value for name, value in whole.items() if name != "top1_agreement"} | {"kl": kl}
    assert sums.result() == pytest.approx(expected, rel=1e-9)
    assert sums.kl_is == "unbiased estimate"
    many = [
        measure(replace(alone, teacher=draw(teacher_NV, labels_N, seed=seed))).result()["kl"] for seed in range(200)
    ]
    mean = math.fsum(many) / 200
    error = math.sqrt(math.fsum((kl - mean) ** 2 for kl in many) / 199 / 200)
    assert abs(mean - whole["kl"]) < 5 * error


def test_what_a_teacher_does_not_tell_is_absent_and_not_wrong() -> None:
    alone, _, teacher_NV, labels_N = some()
    own = {"rows", "nll", "perplexity"}
    without_entropy = measure(replace(alone, teacher=draw(teacher_NV, labels_N, entropy=False)))
    assert set(without_entropy.result()) == own | {"teacher_nll", "teacher_perplexity"}
    assert without_entropy.kl_is is None
    hidden_label = measure(replace(alone, teacher=keep(teacher_NV, labels_N, label=False)))
    assert set(hidden_label.result()) == own | {"kl", "top1_agreement"}
    sampled = replace(draw(teacher_NV, labels_N), logp_label_N=None)
    assert set(measure(replace(alone, teacher=sampled)).result()) == own | {"kl"}
    warm = measure(replace(alone, teacher=keep(teacher_NV, labels_N, temperature=2.0, label=False)))
    assert set(warm.result()) == own | {"top1_agreement"}


def test_a_label_that_is_told_is_told_at_temperature_1() -> None:
    """Codecs keep the label's log-probability at T = 1, whatever the temperature of the others."""
    alone, _, teacher_NV, labels_N = some()
    warm = keep(teacher_NV, labels_N, temperature=2.0, label=False)
    label_N = teacher_NV.log_softmax(1).gather(1, labels_N[:, None])[:, 0]
    found = measure(replace(alone, teacher=replace(warm, logp_label_N=label_N)), chunk_rows=5).result()
    assert found["teacher_nll"] == pytest.approx(float(-label_N.mean()))
    assert "kl" not in found


def test_a_kept_label_tells_its_own_probability() -> None:
    """Whole splits have the metric where every label is kept; one that is not takes it away, in any order."""
    alone, _, teacher_NV, labels_N = some()
    top = keep(teacher_NV, labels_N, label=False)
    kept = replace(alone, teacher=top, labels_N=top.ids_NK[:, 2])
    found = measure(kept, chunk_rows=7)
    assert found.result()["teacher_nll"] == pytest.approx(float(-top.logp_NK[:, 2].mean()), rel=1e-12)
    some_not = measure(replace(alone, teacher=top))
    assert some_not.teacher_unknown == int((top.ids_NK != labels_N[:, None]).all(1).sum()) > 0
    for total in (found + some_not, some_not + found):
        assert "teacher_nll" not in total.result()
        assert total.result()["kl"] == pytest.approx((found.result()["kl"] + some_not.result()["kl"]) / 2)


def test_chunks_change_nothing_and_kinds_do_not_mix() -> None:
    alone, _, teacher_NV, labels_N = some()
    signals = [Dense(logits_NV=teacher_NV), keep(teacher_NV, labels_N), draw(teacher_NV, labels_N)]
    sums = []
    for signal in signals:
        whole = measure(replace(alone, teacher=signal))
        for chunk_rows in (1, 7, 100):
            assert measure(replace(alone, teacher=signal), chunk_rows=chunk_rows).result() == pytest.approx(
                whole.result(), rel=1e-12
            )
        assert (whole + whole).kl_is == (whole + RowSums()).kl_is == (RowSums() + whole).kl_is == whole.kl_is
        sums.append(whole)
    for one in sums:
        for other in sums:
            if one is not other:
                with pytest.raises(AssertionError, match="do not add up"):
                    one + other


def test_masks() -> None:
    """The teacher's empty bucket adds nothing; a kept token that only the student rules out makes the KL inf."""
    labels_N = torch.tensor([0])
    top = TopK(
        ids_NK=torch.tensor([[0, 1]]),
        logp_NK=torch.tensor([[0.75, 0.25]]).log(),
        rest_N=torch.tensor([-math.inf]),
        vocabulary=3,
    )

    def kl(student: list[float]) -> float:
        rows = Rows(student=Dense(logits_NV=torch.tensor([student])), teacher=top, labels_N=labels_N)
        return measure(rows).result()["kl"]

    assert kl([0.0, 0.0, 0.0]) == pytest.approx(0.75 * math.log(2.25) + 0.25 * math.log(0.75), rel=1e-6)
    assert kl([math.log(3), 0.0, -math.inf]) == pytest.approx(0.0, abs=1e-7)
    assert kl([0.0, -math.inf, 0.0]) == math.inf


def test_the_signal_stays_as_it_was() -> None:
    alone, student_NV, teacher_NV, labels_N = some()
    for signal in (keep(teacher_NV, labels_N), draw(teacher_NV, labels_N)):
        before = [value.clone() for value in vars(signal).values() if isinstance(value, Tensor)]
        student_before = student_NV.clone()
        measure(replace(alone, teacher=signal))
        after = [value for value in vars(signal).values() if isinstance(value, Tensor)]
        assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
        assert torch.equal(student_NV, student_before)
