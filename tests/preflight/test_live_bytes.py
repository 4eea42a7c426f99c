"""Live bytes of a pass on fake tensors: against real tensors, and against what one can count by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from kdlab.models.tiny import tiny_model
from kdlab.preflight.live import LiveBytes, Passes, Shape, by_formula, passes, pretend

SHAPE = Shape(batch=2, width=16, rows=10)


def sketch(kind: str) -> tuple[nn.Module, FakeTensorMode]:
    model, fake = tiny_model(kind), FakeTensorMode()
    pretend(model, fake)
    return model, fake


def test_bytes_are_counted_once_and_taken_off_again() -> None:
    with LiveBytes() as live:
        a = torch.zeros(10, 10)
        b = a.view(100)[3:]
        assert (live.now, live.peak) == (400, 400)
        c = a * 2
        assert live.now == 800
        del a
        assert live.now == 800  # b still shares its memory
        del b, c
    assert (live.now, live.peak) == (0, 800)


def test_what_existed_before_is_not_counted() -> None:
    weight = torch.zeros(50)
    with LiveBytes([weight]) as live:
        weight.mul_(2)
        assert weight[:3].sum() == 0
    assert live.peak == 4 + 1  # the view is no memory; the sum and the comparison's truth are
    assert live.now == 0


def test_a_backward_keeps_what_autograd_keeps() -> None:
    x = torch.zeros(8, requires_grad=True)
    with LiveBytes([x]) as live:
        y = x.exp()  # its result is kept for the backward
        z = y.sum()
        assert live.now == 32 + 4
        del y
        assert live.now == 32 + 4
        del z
    assert live.now == 0


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_fake_tensors_live_as_real_ones_do(kind: str) -> None:
    model = tiny_model(kind).train()
    ids = torch.zeros(2, 16, dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[0, -1] = 0  # a mask without a hole would be dropped, which fake tensors cannot see
    with LiveBytes([*model.parameters(), *model.buffers()]) as live:
        hidden = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        hidden.reshape(-1, 64)[torch.arange(10)].sum().backward()
        del hidden
    found = run(kind)
    head = 259 * 64 * 4
    assert found.backward == pytest.approx(live.peak + head, rel=0.2)


def run(kind: str, **options: object) -> Passes:
    model, fake = sketch(kind)
    if options.get("checkpointing"):
        model.activation_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
    shape = options.get("shape", SHAPE)
    assert isinstance(shape, Shape)
    return passes(model, shape, fake=fake, autocast=None, train=True)


def test_the_backward_holds_every_gradient() -> None:
    parameters = sum(p.numel() for p in tiny_model("llama").parameters())
    assert run("llama").backward > 4 * parameters


def test_activations_grow_with_the_batch() -> None:
    small, large = run("llama"), run("llama", shape=Shape(batch=8, width=16, rows=10))
    head = 259 * 64 * 4
    assert large.kept - head == pytest.approx(4 * (small.kept - head), rel=0.1)
    assert large.read > 3 * small.read


def test_checkpointing_keeps_less() -> None:
    wide = Shape(batch=8, width=32, rows=10)
    plain, checkpointed = run("llama", shape=wide), run("llama", checkpointing=True, shape=wide)
    assert checkpointed.kept < plain.kept / 2
    assert checkpointed.backward < plain.backward


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_encoder_decoder_reads_a_source(kind: str) -> None:
    short = run(kind, shape=Shape(batch=2, width=8, rows=8, source=8))
    long = run(kind, shape=Shape(batch=2, width=8, rows=8, source=64))
    assert long.kept > 2 * short.kept


def test_autocast_halves_what_is_kept_of_products() -> None:
    model, fake = sketch("llama")
    shape = Shape(batch=8, width=64, rows=10)
    plain = passes(model, shape, fake=fake, autocast=None, train=True)
    narrow = passes(model, shape, fake=fake, autocast=torch.bfloat16, train=True)
    assert narrow.kept < 0.9 * plain.kept


def test_the_formula_by_hand() -> None:
    shape = Shape(batch=2, width=16, rows=10)
    options = {"layers": 3, "hidden": 64, "heads": 4, "shape": shape, "bytes_each": 2, "gradients": 7}
    found = by_formula(**options, checkpointing=False)  # type: ignore[arg-type]
    assert found.kept == 3 * 2 * 16 * 64 * (34 + 5 * 4 * 16 / 64)
    assert found.backward == found.forward + 7
    assert by_formula(**options, checkpointing=True).kept == 2 * 2 * 16 * 64 * 3  # type: ignore[arg-type]
