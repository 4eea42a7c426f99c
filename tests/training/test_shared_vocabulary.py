"""`loss.vocab=shared`: padding of a vocabulary, on either side, is as if it were not there."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from kdlab.batch import Batch
from kdlab.losses import LOSSES
from kdlab.losses.engine import row_loss
from kdlab.metrics.heldout import measure
from kdlab.models.student import CutConfig, Student, StudentConfig
from kdlab.models.tiny import byte_tokenizer, tiny_model
from kdlab.rows import IGNORE
from kdlab.teachers.live import LiveTeacher
from kdlab.teachers.options import TeacherConfig
from kdlab.training.pair import ModelPair, pair_up

ENTRIES, PADDING = 259, 64
NEO = {"hidden_size": 32, "num_heads": 4, "num_layers": 2, "intermediate_size": 48, "max_position_embeddings": 64}
NEO |= {"attention_types": [[["global", "local"], 1]], "window_size": 4}
GPTJ = {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 64, "rotary_dim": 4}


def random_model(kind: str, seed: int):
    if kind == "llama":
        return tiny_model("llama", seed=seed)
    fields = {"gpt_neo": NEO, "gptj": GPTJ}[kind] | {"vocab_size": ENTRIES, "initializer_range": 0.2}
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **fields), dtype=torch.float32).eval()
    if model.get_output_embeddings().bias is not None:
        torch.nn.init.normal_(model.get_output_embeddings().bias)
    return model


def padded(model):
    """The same model with 64 more entries, whose weights are as large as any."""
    torch.manual_seed(0)
    wider = copy.deepcopy(model)
    wider.resize_token_embeddings(ENTRIES + PADDING, mean_resizing=False)
    with torch.no_grad():
        for weights in {wider.get_input_embeddings().weight, wider.get_output_embeddings().weight}:
            weights[ENTRIES:].normal_(std=0.3)
        if wider.get_output_embeddings().bias is not None:
            wider.get_output_embeddings().bias[ENTRIES:].normal_()
    return wider.eval()


def pair(loss, student, teacher, *, extra: int = 0, teacher_extra: int = 0) -> ModelPair:
    """The pair as a run makes it; `extra` tokens are named at the end of a tokenizer."""
    tokenizers = [byte_tokenizer(), byte_tokenizer()]
    for tokenizer, count in zip(tokenizers, (extra, teacher_extra), strict=True):
        tokenizer.add_tokens([f"<|extratoken_{i}|>" for i in range(count)])
    mine = Student(model=student, tokenizer=tokenizers[0], description="")
    return pair_up(loss, mine, LiveTeacher(teacher, tokenizers[1], description=""))


def batch(seed: int = 0) -> Batch:
    ids = torch.randint(3, ENTRIES, (3, 11), generator=torch.Generator().manual_seed(seed))
    labels, mask = ids.clone(), torch.ones_like(ids)
    labels[:, :4] = IGNORE
    labels[1, 8:], ids[1, 8:], mask[1, 8:] = IGNORE, 0, 0
    return Batch(input_ids_BT=ids, labels_BT=labels, attention_mask_BT=mask)


def outcome(made: ModelPair, loss, student) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    student.zero_grad()
    rows = made.rows(batch())
    out = row_loss(loss, rows, count=len(rows))
    out.loss.backward()
    return out.loss.detach(), {name: p.grad.clone() for name, p in student.named_parameters()}


@pytest.mark.parametrize(
    "name", ["forward_kl", "reverse_kl", "jensen_shannon", "skew_reverse", "logit_mse", "adaptive_kl"]
)
@pytest.mark.parametrize("sides", ["teacher", "student", "both"])
def test_64_padded_rows_change_no_bit_of_loss_and_gradient(name, sides):
    strict = LOSSES[name](temperature=2.0, hard_weight=0.3)
    shared = LOSSES[name](temperature=2.0, hard_weight=0.3, vocab="shared")
    student, teacher = random_model("llama", 1), random_model("llama", 2)
    value, gradients = outcome(pair(strict, student, teacher), strict, student)
    student = padded(student) if sides != "teacher" else student
    made = pair(shared, student, padded(teacher) if sides != "student" else teacher)
    assert made.shared == ENTRIES
    same, others = outcome(made, shared, student)
    assert value > 0
    assert torch.equal(same, value)
    for key, gradient in others.items():
        assert torch.equal(gradient[:ENTRIES] if len(gradient) > len(gradients[key]) else gradient, gradients[key]), key
        assert gradient[ENTRIES:].count_nonzero() == 0 or len(gradient) == len(gradients[key])


def test_a_padded_gptj_teaches_a_gpt_neo():
    """GPT-J predicts 50,400 entries and names them, GPT-Neo the first 50,257 of them."""
    loss = LOSSES["forward_kl"](vocab="shared")
    student, teacher = random_model("gpt_neo", 1), random_model("gptj", 2)
    value, gradients = outcome(pair(loss, student, teacher), loss, student)
    wide = padded(teacher)
    made = pair(loss, student, wide, teacher_extra=PADDING)
    same, others = outcome(made, loss, student)
    assert torch.equal(same, value)
    assert all(torch.equal(gradient, gradients[key]) for key, gradient in others.items())
    rows = made.rows(batch())
    with torch.no_grad():
        logits = wide(input_ids=batch().input_ids_BT, attention_mask=batch().attention_mask_BT).logits[:, :-1].double()
    cut = logits.softmax(-1)[..., ENTRIES:].sum(-1)[batch().labels_BT[:, 1:] != IGNORE].mean()
    assert measure(rows).result()["teacher_cut_mass"] == pytest.approx(cut.item(), rel=1e-4)


def test_a_token_that_was_cut_is_named_and_a_pad_token_is_not_read():
    loss = LOSSES["forward_kl"](vocab="shared")
    student, teacher = padded(random_model("llama", 1)), random_model("llama", 2)
    made = pair(loss, student, teacher, extra=3)
    made.tokenizer.pad_token = "<|extratoken_2|>"
    plain, data = made.rows(batch()), batch()
    data.input_ids_BT[1, 8:] = made.tokenizer.pad_token_id
    assert torch.equal(made.rows(data).teacher.hidden_NH, plain.teacher.hidden_NH)
    data = batch()
    data.input_ids_BT[0, 2] = made.tokenizer.pad_token_id  # inside a text it is read
    with pytest.raises(ValueError, match=r"the data has the token '<\|extratoken_2\|>'"):
        made.rows(data)
    for where in ("input_ids_BT", "labels_BT"):
        data = batch()
        getattr(data, where)[0, 6] = ENTRIES + 1
        with pytest.raises(
            ValueError, match=r"the data has the token '<\|extratoken_1\|>' \(id 260\), and only ids below 259"
        ):
            made.rows(data)


@pytest.fixture
def widened(tmp_path):
    """The teacher of the tests with 64 more entries, in a folder."""
    padded(tiny_model("llama")).save_pretrained(tmp_path / "wide")
    byte_tokenizer().save_pretrained(tmp_path / "wide")
    return str(tmp_path / "wide")


def student_folder(folder):
    tiny_model("llama", seed=1).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return StudentConfig(path=str(folder))


def test_a_whole_run_is_that_of_the_narrow_teacher(job, start, tmp_path, widened):
    student = student_folder(tmp_path / "student")
    narrow = start(job(student=student, max_steps=3), tmp_path / "narrow")
    loss = LOSSES["forward_kl"](vocab="shared", max_cut_mass=1.0)
    wide = start(
        job(student=student, max_steps=3, loss=loss, teacher=TeacherConfig(path=widened)), tmp_path / "wide_run"
    )
    for when in ("before", "after"):
        measured = dict(wide["metrics"][when])
        cut = measured.pop("teacher_cut_mass")
        assert 0 < cut < 1
        assert measured.pop("student_cut_mass") == 0.0
        assert measured == narrow["metrics"][when]
    assert wide["metrics"]["teacher"]["cut_mass"] == cut
    models = [AutoModelForCausalLM.from_pretrained(tmp_path / run / "model") for run in ("narrow", "wide_run")]
    for (key, a), b in zip(models[0].state_dict().items(), models[1].state_dict().values(), strict=True):
        assert torch.equal(a, b), key


def test_too_much_cut_mass_is_refused_before_training(job, start, tmp_path, widened):
    config = job(
        student=student_folder(tmp_path / "student"),
        loss=LOSSES["forward_kl"](vocab="shared"),
        teacher=TeacherConfig(path=widened),
    )
    with pytest.raises(
        ValueError, match=r"^loss.vocab=shared: .*% of its probability .* above loss.max_cut_mass=0.01; "
    ) as caught:
        start(config, tmp_path / "run")
    assert "loss=uld_hybrid" in str(caught.value)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["steps"]) == ("failed", 0)
    assert record["metrics"]["before"]["teacher_cut_mass"] > 0.01


def test_a_cut_student_of_a_padded_teacher_works(job, start, tmp_path, widened):
    loss = LOSSES["forward_kl"](vocab="shared", max_cut_mass=1.0)
    student = StudentConfig(from_teacher=CutConfig(layers=1))
    record = start(job(student=student, max_steps=2, loss=loss, teacher=TeacherConfig(path=widened)), tmp_path / "run")
    assert 0 < record["metrics"]["after"]["student_cut_mass"] < 1
