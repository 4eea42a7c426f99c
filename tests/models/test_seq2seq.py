"""Encoder-decoder models, split into body and head."""

import peft
import pytest
import torch
from architectures import random_ids, random_model
from encoder_decoders import FAMILIES, T5S, own_logits, random_seq2seq, seq2seq_batch
from torch import nn

from kdlab.batch import Batch
from kdlab.losses import LOSSES
from kdlab.losses.engine import row_loss
from kdlab.models.head import SplitModel
from kdlab.models.seq2seq import decoder_inputs
from kdlab.models.tiny import byte_tokenizer, tiny_model
from kdlab.rows import IGNORE, Projected
from kdlab.teachers.live import LiveTeacher
from kdlab.training.pair import ModelPair


def logits(split, batch):
    hidden = split.hidden(batch)
    side = split.project(hidden.flatten(0, 1))
    return (side.dense() if isinstance(side, Projected) else side).logits_NV.view(*hidden.shape[:2], -1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_split_gives_the_models_own_logits(family):
    model, batch = random_seq2seq(family).double(), seq2seq_batch()
    split = SplitModel(model)
    assert (split.mode, split.packing, split.vocabulary) == ("projected", "none", 97)
    assert split.scale == (32**-0.5 if family == "t5" else 1.0)
    with torch.no_grad():
        torch.testing.assert_close(logits(split, batch), own_logits(model, batch), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_splits_alike(family, dtype):
    half, whole = SplitModel(random_seq2seq(family).to(dtype)), SplitModel(random_seq2seq(family))
    assert (half.mode, half.scale) == (whole.mode, whole.scale)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_source_or_target_further_changes_nothing(family):
    split = SplitModel(random_seq2seq(family).double())
    with torch.no_grad():
        narrow, wide = split.hidden(seq2seq_batch()), split.hidden(seq2seq_batch(wider=5))
    for b, target in enumerate((4, 6)):
        torch.testing.assert_close(wide[b, :target], narrow[b, :target], rtol=1e-9, atol=1e-9)
    alone = split.hidden(seq2seq_batch((9,), (4,)))
    torch.testing.assert_close(alone[0], narrow[0, :4], rtol=1e-9, atol=1e-9)


def test_the_bias_behind_barts_head_is_the_models_own_and_left_out_where_it_is_nothing():
    model = random_seq2seq("bart")
    bias = SplitModel(model).project(torch.zeros(1, 32)).bias_V
    assert bias.data_ptr() == model.final_logits_bias.data_ptr()
    model.final_logits_bias.zero_()
    assert SplitModel(model).project(torch.zeros(1, 32)).bias_V is None


@pytest.mark.parametrize(
    ("family", "first", "second"),
    [
        ("t5", [0, 7, 8], [0, 5, 0]),
        ("bart", [2, 7, 8], [2, 5, 0]),
        ("mbart", [9, 7, 8], [5, 5, 0]),  # begins with its last label: the language
        ("pegasus", [0, 7, 8], [0, 5, 0]),
    ],
)
def test_the_decoder_reads_the_labels_one_place_to_the_right(family, first, second):
    labels = torch.tensor([[7, 8, 9], [5, IGNORE, IGNORE]])
    assert decoder_inputs(random_seq2seq(family), labels).tolist() == [first, second]
    assert labels[1].tolist() == [5, IGNORE, IGNORE]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_without_a_label_is_read_too(family):
    split, batch = SplitModel(random_seq2seq(family)), seq2seq_batch()
    empty = Batch(
        input_ids_BT=batch.input_ids_BT,
        attention_mask_BT=batch.attention_mask_BT,
        labels_BT=torch.full_like(batch.labels_BT, IGNORE),
        shift=False,
    )
    assert split.hidden(empty).isfinite().all()


@pytest.mark.parametrize(("family", "field"), [("t5", "decoder_start_token_id"), ("bart", "decoder_start_token_id")])
def test_a_config_without_a_start_is_named(family, field):
    model = random_seq2seq(family)
    setattr(model.config, field, None)
    with pytest.raises(ValueError, match=f"its config names no {field}"):
        decoder_inputs(model, torch.tensor([[5]]))
    model.config.pad_token_id = None
    with pytest.raises(ValueError, match="names no pad_token_id"):
        decoder_inputs(model, torch.tensor([[5]]))


def test_a_batch_of_the_wrong_kind_is_a_mistake_of_ours():
    ids = random_ids()
    with pytest.raises(AssertionError, match="seq2seq batch"):
        SplitModel(random_model("llama")).hidden(seq2seq_batch())
    with pytest.raises(AssertionError, match="seq2seq batch"):
        SplitModel(random_seq2seq("t5")).hidden(Batch(input_ids_BT=ids, labels_BT=ids))


def test_packed_documents_are_refused():
    split = SplitModel(random_seq2seq("t5"))
    packed = Batch(
        input_ids_BT=random_ids(1, 4), labels_BT=random_ids(1, 4), position_ids_BT=torch.tensor([[0, 1, 0, 1]])
    )
    with pytest.raises(ValueError, match=r"dataset.pack=true: T5ForConditionalGeneration cannot keep packed"):
        split.hidden(packed)


def test_a_head_that_does_something_else_falls_back_to_whole_logits(capsys):
    class Odd(type(random_seq2seq("bart"))):
        def forward(self, *arguments, **keywords):
            output = super().forward(*arguments, **keywords)
            output.logits = output.logits.sin()
            return output

    model, batch = random_seq2seq("bart"), seq2seq_batch()
    model.__class__ = Odd
    split = SplitModel(model)
    assert split.mode == "whole"
    assert "Odd: no split into body and head gives its logits" in capsys.readouterr().err
    torch.testing.assert_close(logits(split, batch), own_logits(model, batch))


@pytest.mark.parametrize("family", ["t5", "flan_t5", "bart"])
def test_it_works_under_lora_and_follows_the_adapter(family):
    torch.manual_seed(0)
    model, batch = random_seq2seq(family), seq2seq_batch()
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules="all-linear", task_type="SEQ_2_SEQ_LM"))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    split = SplitModel(wrapped)
    assert split.mode == "projected"
    found = logits(split, batch)
    torch.testing.assert_close(found, own_logits(wrapped, batch), rtol=1e-5, atol=1e-4)
    found.sum().backward()
    with_gradient = {name.split(".")[-3] for name, p in wrapped.named_parameters() if p.grad is not None}
    assert with_gradient == {"lora_A", "lora_B"}


@pytest.mark.parametrize("family", ["t5", "flan_t5", "bart", "mbart"])
def test_loss_and_gradients_are_autograd_of_the_plain_formula_on_full_logits(family):
    student, teacher = random_seq2seq(family, seed=2).double(), random_seq2seq(family, seed=1).double()
    batch, w, temperature = seq2seq_batch((9, 5, 7), (4, 6, 2)), 0.3, 2.0
    pair = ModelPair(split=SplitModel(student), teacher=LiveTeacher(teacher, byte_tokenizer(), description="random"))
    rows = pair.rows(batch)
    assert len(rows) == batch.rows == 12
    loss = row_loss(LOSSES["forward_kl"](hard_weight=w, temperature=temperature), rows, count=12).loss
    found = torch.autograd.grad(loss, list(student.parameters()))
    on = batch.labels_BT != IGNORE
    z, (p, labels) = own_logits(student, batch)[on], (own_logits(teacher, batch)[on], batch.labels_BT[on])
    logq, logp = (z / temperature).log_softmax(-1), (p / temperature).log_softmax(-1).detach()
    soft = temperature**2 * (logp.exp() * (logp - logq)).sum(-1)
    wanted = ((1 - w) * soft + w * nn.functional.cross_entropy(z, labels, reduction="none")).mean()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-9)
    for mine, theirs in zip(found, torch.autograd.grad(wanted, list(student.parameters())), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-11)


@pytest.mark.parametrize("family", T5S)
def test_t5_stays_finite_in_bfloat16_past_what_float16_holds(family):
    """Pretrained T5s have feed-forward sums past 65504, the largest float16."""
    batch, model, largest = seq2seq_batch(), random_seq2seq(family), [0.0]
    for name, module in model.named_modules():
        if name.endswith("wo"):
            module.weight.data *= 3e5
            module.register_forward_hook(lambda _m, _i, out: largest.append(out.abs().max().item()))
    model = model.to(torch.bfloat16)
    hidden, out = SplitModel(model).hidden(batch), own_logits(model, batch)
    out.float().log_softmax(-1)[..., 5].sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert max(largest) > torch.finfo(torch.float16).max
    assert len(gradients) > 10
    assert all(tensor.isfinite().all() for tensor in (hidden, out, *gradients))


def test_a_decoder_may_have_a_vocabulary_of_its_own():
    apart = {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 61, "tie_word_embeddings": False}
    model, batch = random_seq2seq("marian", **apart), seq2seq_batch()
    batch.labels_BT[batch.labels_BT > 60] = 60
    split = SplitModel(model)
    assert (split.mode, split.vocabulary) == ("projected", 61)
    torch.testing.assert_close(logits(split, batch), own_logits(model, batch), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_a_tiny_model_splits(kind):
    assert SplitModel(tiny_model(kind)).mode == "projected"
