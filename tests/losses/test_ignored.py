"""What is not supervised changes nothing: prompts, padding, ignored labels, masked vocabulary entries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from loss_cases import Case, close, dense, every_loss, every_option, make, projected_case
from torch import Tensor

from kdlab.losses.engine import row_loss
from kdlab.rows import IGNORE, Projected, supervised


def lay_out(case: Case, *, prompt: int, left: int, right: int, junk: float) -> tuple[Case, Tensor, Tensor]:
    """The case's rows as one sequence of hidden states, with a prompt and padding; what is not a row is `junk`."""
    student, teacher = case.student, case.teacher
    assert isinstance(student, Projected)
    assert isinstance(teacher, Projected)
    rows = len(case.labels_N)
    start = left + prompt - 1  # the last prompt position predicts the first label
    length = left + prompt + rows + right
    sides = []
    for side in (student, teacher):
        hidden_TH = torch.full((length, side.hidden_NH.shape[1]), junk, dtype=torch.float64)
        hidden_TH[start : start + rows] = side.hidden_NH.detach()
        sides.append(hidden_TH)
    labels_BT = torch.full((1, length), IGNORE)
    labels_BT[0, left + prompt : left + prompt + rows] = case.labels_N
    hidden_TH = sides[0].requires_grad_()
    positions_N, labels_N = supervised(labels_BT, shift=True)
    laid = Case(
        student=replace(student, hidden_NH=hidden_TH[positions_N]),
        teacher=replace(teacher, hidden_NH=sides[1][positions_N]),
        labels_N=labels_N,
    )
    return laid, hidden_TH, positions_N


@every_loss
def test_padding_prompts_and_ignored_labels_change_nothing(name: str) -> None:
    loss = make(name, temperature=2.0, hard_weight=0.3, chunk_rows=4)
    case = projected_case()
    plain_out, (hidden_NH, weight_VH, _) = case.run(loss)
    for prompt, left, right, junk in [(1, 0, 0, 0.0), (5, 0, 0, 3.0), (1, 4, 0, -2.0), (1, 0, 4, 9.0), (3, 2, 5, 1e6)]:
        laid, hidden_TH, positions_N = lay_out(case, prompt=prompt, left=left, right=right, junk=junk)
        assert torch.equal(laid.labels_N, case.labels_N)
        assert isinstance(laid.student, Projected)
        out = row_loss(loss, laid.rows(), count=len(case.labels_N))
        gradient_TH, weight = torch.autograd.grad(out.loss, [hidden_TH, laid.student.weight_VH])
        close(out.loss, plain_out.loss)
        close(weight, weight_VH)
        close(gradient_TH[positions_N], hidden_NH)
        untouched = torch.ones(len(gradient_TH), dtype=torch.bool)
        untouched[positions_N] = False
        assert not gradient_TH[untouched].any()


@every_option
def test_padded_vocabulary_is_the_cropped_one(name: str, options: dict[str, Any]) -> None:
    """Entries that -inf masks on both sides, as logits or as an LM-head bias, take no part and get no gradient."""
    if options.get("beta") == options.get("alpha") == 0 or options.get("beta", 1) < 0 or options.get("alpha", 1) < 0:
        pytest.skip("without a positive power of p or q an entry of no mass has no limit")
    loss = make(name, temperature=2.0, hard_weight=0.3, chunk_rows=4, **options)
    case, extra = projected_case(), 6
    assert isinstance(case.student, Projected)
    assert isinstance(case.teacher, Projected)
    cropped, expected = case.run(loss)
    wide = []
    for side in (case.student, case.teacher):
        weight_VH, bias_V = side.weight_VH.detach(), side.bias_V
        bias_V = torch.zeros(len(weight_VH), dtype=torch.float64) if bias_V is None else bias_V.detach()
        wide.append(
            replace(
                side,
                weight_VH=torch.cat([weight_VH, torch.randn(extra, weight_VH.shape[1], dtype=torch.float64)]),
                bias_V=torch.cat([bias_V, torch.full((extra,), -torch.inf, dtype=torch.float64)]),
            )
        )
    wide[0].weight_VH.requires_grad_()
    wide[0].bias_V.requires_grad_()
    out, gradients = replace(case, student=wide[0], teacher=wide[1]).run(loss)
    close(out.loss, cropped.loss)
    close(gradients[0], expected[0])
    for gradient, narrow in zip(gradients[1:], expected[1:], strict=True):
        close(gradient[:-extra], narrow)
        assert not gradient[-extra:].any()
    out, (gradient_NV,) = replace(case, student=dense(wide[0], grad=True), teacher=dense(wide[1], grad=False)).run(loss)
    close(out.loss, cropped.loss)
    assert not gradient_NV[:, -extra:].any()
