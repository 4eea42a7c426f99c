import pytest
import torch

from kdlab.batch import Batch
from kdlab.models.quantization import QuantizationConfig
from kdlab.models.student import CutConfig, StudentConfig, build_student
from kdlab.models.tiny import save_tiny
from kdlab.rows import Dense, Projected, supervised
from kdlab.teachers.live import load_teacher
from kdlab.teachers.options import TeacherConfig

IDS = torch.arange(3, 23).view(2, 10)
LABELS = torch.where(torch.arange(20).view(2, 10) % 3 == 0, IDS, -100)
BATCH = Batch(input_ids_BT=IDS, labels_BT=LABELS)


@pytest.fixture
def teacher():
    return load_teacher(TeacherConfig(path="tiny:llama", dtype="float32"))


def test_the_signal_is_the_models_answer_at_the_supervised_rows(teacher):
    positions, labels = supervised(LABELS, shift=True)
    signal = teacher.signal(BATCH, positions)
    assert isinstance(signal, Projected)
    assert len(signal) == len(labels)
    with torch.no_grad():
        wanted = teacher.model(IDS).logits.flatten(0, 1)[positions]
    torch.testing.assert_close(signal.dense().logits_NV, wanted)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_encoder_decoder_answers_label_by_label(kind):
    teacher = load_teacher(TeacherConfig(path=f"tiny:{kind}", dtype="float32"))
    labels = torch.tensor([[7, 8, -100], [9, 10, 11]])
    batch = Batch(input_ids_BT=IDS, attention_mask_BT=torch.ones_like(IDS), labels_BT=labels, shift=False)
    positions, _ = supervised(labels, shift=False)
    signal = teacher.signal(batch, positions)
    with torch.no_grad():
        wanted = teacher.model(input_ids=IDS, labels=labels).logits[labels != -100]
    torch.testing.assert_close(signal.dense().logits_NV, wanted)


def test_the_teacher_is_frozen_and_never_in_a_graph(teacher):
    positions, _ = supervised(LABELS, shift=True)
    signal = teacher.signal(BATCH, positions)
    assert not teacher.model.training
    assert all(not parameter.requires_grad for parameter in teacher.model.parameters())
    for tensor in (signal.hidden_NH, signal.weight_VH):
        assert not tensor.requires_grad
        assert not tensor.is_inference()
    trainable = torch.nn.Linear(64, 4)
    trainable(signal.hidden_NH).sum().backward()  # an inference tensor would refuse
    assert all(parameter.grad is None for parameter in teacher.model.parameters())


def test_no_module_that_holds_it_saves_it(teacher):
    module = torch.nn.Module()
    module.teacher = teacher
    assert module.state_dict() == {}
    assert list(module.parameters()) == []


def test_it_computes_in_its_own_number_format(teacher):
    positions, _ = supervised(LABELS, shift=True)
    plain = teacher.signal(BATCH, positions).hidden_NH
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(teacher.signal(BATCH, positions).hidden_NH, plain)
    half = load_teacher(TeacherConfig(path="tiny:llama", dtype="bfloat16"))
    assert half.signal(BATCH, positions).hidden_NH.dtype == torch.bfloat16


def test_no_rows_give_an_empty_signal(teacher):
    assert len(teacher.signal(BATCH, torch.empty(0, dtype=torch.long))) == 0


def test_it_says_what_it_is(tmp_path):
    folder = save_tiny("gpt2", tmp_path / "t")
    teacher = load_teacher(TeacherConfig(path=str(folder)))
    assert teacher.description == f"folder {folder}"
    assert teacher.disk_bytes == (folder / "model.safetensors").stat().st_size
    assert len(teacher.tokenizer) == 259


@pytest.mark.parametrize("kind", ["bnb8", "nf4"])
def test_a_quantised_teacher_answers_and_can_still_be_cut(kind, tmp_path):
    pytest.importorskip("bitsandbytes")
    folder = save_tiny("llama", tmp_path / "t")
    config = TeacherConfig(path=str(folder), dtype="float32")
    quantised, plain = load_teacher(config, QuantizationConfig(kind=kind)), load_teacher(config)
    positions, _ = supervised(LABELS, shift=True)
    p, q = (
        (side if isinstance(side, Dense) else side.dense()).logits_NV.float().log_softmax(-1)
        for side in (teacher.signal(BATCH, positions) for teacher in (plain, quantised))
    )
    assert 0 < float((p.exp() * (p - q)).sum(-1).mean()) < 0.2
    student = build_student(
        StudentConfig(from_teacher=CutConfig(layers=1)), quantised.model, quantised.tokenizer, seed=0
    )
    wanted = plain.model.model.layers[0].mlp.up_proj.weight
    torch.testing.assert_close(student.model.model.layers[0].mlp.up_proj.weight, wanted, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TeacherConfig(source="dead"), "teacher.source=dead: must be one of live, cached, openai, none"),
        (lambda: TeacherConfig(dtype="half"), "teacher.dtype=half: must be one of auto"),
        (lambda: load_teacher(TeacherConfig()), "teacher.path is not set"),
        (lambda: load_teacher(TeacherConfig(path="tiny:bert")), "teacher.path=tiny:bert: bert is an encoder"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
