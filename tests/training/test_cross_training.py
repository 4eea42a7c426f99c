"""Two models with tokenizers of their own on the same examples: the rows are those of each model alone, and how the
examples are batched changes nothing."""

from __future__ import annotations

import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from kdlab.data.collate import padded
from kdlab.data.dataset import DatasetConfig, Side, build
from kdlab.losses import CROSS_LOSSES
from kdlab.losses.cross.engine import cross_loss
from kdlab.models.student import Student
from kdlab.models.tiny import byte_tokenizer, tiny_model
from kdlab.teachers.live import LiveTeacher
from kdlab.text.vocabulary import token_bytes
from kdlab.training.pair import pair_up

WORDS = ["the", "house", "stands", "by", "a", "sea", "and", "wind", "é", "漢字", "🙂", "blows", "it", "all", "night"]


def said(i: int) -> str:
    return " ".join(WORDS[(i * 5 + k * k) % len(WORDS)] for k in range(3 + 2 * i))


def merging() -> PreTrainedTokenizerFast:
    """Byte-level BPE with merges, and the plain template."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<none>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(map(said, range(9)), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", pad_token="<none>")


@pytest.fixture(params=["llama", "t5"])
def made(request, tmp_path):
    """A pair in float64 and eight examples of unequal lengths, of which the longest are cut."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Say {i}", "completion": said(i)}) + "\n" for i in range(10)))
    tokenizers = merging(), byte_tokenizer()
    seq2seq = request.param == "t5"
    sides = [Side(tokenizer=tokenizer, seq2seq=seq2seq) for tokenizer in tokenizers]
    config = DatasetConfig(path=str(path), cache_dir=str(tmp_path / "cache"), heldout=2, max_length=64)
    store = build(config, *sides).train
    student = tiny_model(request.param, seed=2, vocab_size=len(tokenizers[0]), hidden=32).double()
    teacher = tiny_model(request.param, seed=1).double()
    loss = CROSS_LOSSES["span_kl"](temperature=2.0)
    pair = pair_up(
        loss,
        Student(model=student, tokenizer=tokenizers[0], description=""),
        LiveTeacher(teacher, tokenizers[1], description=""),
    )
    return pair, store, loss, [token_bytes(tokenizer) for tokenizer in tokenizers]


def test_spans_spell_the_same_bytes_and_rows_are_each_models_own(made):
    pair, store, _, spelt = made
    layout = store.layout(pad_id=0)
    rows = pair.rows(padded([store[i] for i in range(8)], layout))
    sides = [
        (rows.student, rows.labels_N, rows.student_span_N, spelt[0]),
        (rows.teacher, rows.teacher_labels_M, rows.teacher_span_M, spelt[1]),
    ]
    texts = []
    for _, labels, spans, table in sides:
        text = [b""] * rows.spans
        for label, span in zip(labels.tolist(), spans.tolist(), strict=True):
            if span >= 0:
                text[span] += table[label] or b"<end>"
        texts.append(text)
    assert texts[0] == texts[1]
    assert rows.spans > 30
    assert (rows.student_span_N >= 0).double().mean() > 0.9
    for k, model in enumerate((pair.split.model, pair.teacher.model)):
        batches = [padded([store[i]], layout) for i in range(8)]
        batches = batches if k == 0 else [batch.teacher for batch in batches]
        alone = []
        for batch in batches:
            inputs = {"input_ids": batch.input_ids_BT, "attention_mask": batch.attention_mask_BT}
            if batch.shift:
                logits, labels = model(**inputs).logits[0, :-1], batch.labels_BT[0, 1:]
            else:
                logits, labels = model(**inputs, labels=batch.labels_BT).logits[0], batch.labels_BT[0]
            alone.append(logits[labels >= 0])
        torch.testing.assert_close(sides[k][0].dense().logits_NV, torch.cat(alone), rtol=1e-9, atol=1e-9)


def test_8_micro_batches_of_1_are_1_of_8(made):
    pair, store, loss, _ = made
    layout, student = store.layout(pad_id=0), pair.split.model
    found = []
    for size in (8, 3, 1):
        batches = [padded([store[i] for i in range(a, min(a + size, 8))], layout) for a in range(0, 8, size)]
        count, total = sum(batch.rows for batch in batches), 0.0
        student.zero_grad()
        for batch in batches:
            out = cross_loss(loss, pair.rows(batch), matched=pair.matched, count=count)
            out.loss.backward()
            total += out.loss.item()
        found.append((total, [p.grad.clone() for p in student.parameters()]))
    for total, gradients in found[1:]:
        assert total == pytest.approx(found[0][0], rel=1e-10)
        for gradient, wanted in zip(gradients, found[0][1], strict=True):
            torch.testing.assert_close(gradient, wanted, rtol=1e-8, atol=1e-12)
    assert any(gradient.abs().max() > 1e-3 for gradient in found[0][1])
    assert all(parameter.grad is None for parameter in pair.teacher.model.parameters())
