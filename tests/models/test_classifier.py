"""Classifiers out of any model: the head that is drawn, the padding that must not show, the classes that must agree."""

from __future__ import annotations

import pytest
import torch
from architectures import random_model
from classifiers import KINDS, NUMBER, OTHER, TASK, decisions, every_kind, logits, save_classifier, shaken
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, pipeline

from kdlab.batch import Batch
from kdlab.models.classifier import ClassifierSplit, head_names, is_classifier, load_classifier, split_of
from kdlab.models.head import SplitModel
from kdlab.models.loading import load_language_model
from kdlab.models.pair import check_pair, reads_alike
from kdlab.models.source import resolve
from kdlab.models.student import CutConfig, StudentConfig, build_student
from kdlab.models.tiny import byte_tokenizer, save_tiny, tiny_model
from kdlab.models.weights_hash import source_hash
from kdlab.models.writing import save_student
from kdlab.rows import Dense
from kdlab.teachers.live import load_teacher
from kdlab.teachers.opening import open_teacher
from kdlab.teachers.options import TeacherConfig
from kdlab.text.task import read_task


@pytest.fixture(scope="module")
def fresh():
    return {kind: load_classifier(f"tiny:{kind}", task=TASK, fresh_head=True) for kind in KINDS}


@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4), more=st.integers(0, 5))
@every_kind
def test_padding_changes_no_decision(fresh, kind, lengths, more):
    batch = decisions(lengths, more=more)
    together = logits(fresh[kind], batch)
    for i, length in enumerate(lengths):
        alone = fresh[kind](input_ids=batch.input_ids_BT[i : i + 1, :length]).logits
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)


@every_kind
def test_the_split_gives_a_row_a_decision(fresh, kind):
    split, batch = split_of(fresh[kind]), decisions()
    assert isinstance(split, ClassifierSplit)
    assert (split.vocabulary, split.seq2seq, split.packing) == (3, False, "none")
    hidden = split.hidden(batch)
    assert hidden.shape == (3, 1, 3)
    side = split.project(hidden.flatten(0, 1))
    assert isinstance(side, Dense)
    wanted = fresh[kind](input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT).logits
    torch.testing.assert_close(side.logits_NV, wanted)


def test_a_language_model_is_split_as_ever():
    assert isinstance(split_of(tiny_model("llama")), SplitModel)
    assert not is_classifier(tiny_model("llama"))


def test_packed_rows_are_none_of_its_business(fresh):
    ids = torch.ones(1, 4, dtype=torch.long)
    packed = decisions((4,))
    object.__setattr__(packed, "position_ids_BT", ids)
    with pytest.raises(AssertionError, match="packed"):
        split_of(fresh["llama"]).hidden(packed)


@every_kind
def test_what_the_config_says(fresh, kind):
    config = fresh[kind].config
    assert config.id2label == {0: "low", 1: "mid", 2: "high"}
    assert config.label2id == {"low": 0, "mid": 1, "high": 2}
    assert (config.num_labels, config.problem_type, config.pad_token_id) == (
        3,
        "single_label_classification",
        byte_tokenizer().pad_token_id,
    )


@every_kind
def test_a_number_is_a_head_of_one(kind):
    model = load_classifier(f"tiny:{kind}", task=NUMBER, fresh_head=True)
    assert logits(model, decisions()).shape == (3, 1)
    assert model.config.problem_type == "regression"
    batch = decisions()
    told = model(input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT, labels=torch.zeros(3, 1))
    torch.testing.assert_close(told.loss, logits(model, batch).pow(2).mean())  # transformers trains it by MSE


@every_kind
def test_a_language_model_gets_a_head_of_the_seed(kind, tmp_path, capsys):
    folder = save_tiny(kind, tmp_path / "m")
    before = torch.get_rng_state()
    first, same, other = (
        load_classifier(str(folder), task=TASK, fresh_head=True, dtype="float32", seed=seed, option="student.path")
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    said = capsys.readouterr().err
    assert f"student.path={folder}" in said
    assert "drawn anew (seed 1)" in said
    assert "LOAD REPORT" not in said
    heads = tuple(f"{name}." for name in head_names(first))
    body = tiny_model(kind).base_model.state_dict()
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, same.state_dict()[name])
        if name.startswith(heads):
            drawn = "weight" in name and "norm" not in name.lower()
            assert torch.equal(weight, other.state_dict()[name]) is not drawn
        else:
            assert torch.equal(weight, body[name.partition(".")[2]])


@every_kind
def test_a_trained_head_is_kept(kind, tmp_path, capsys):
    folder = save_classifier(kind, tmp_path / "m", seed=3)
    again = load_classifier(str(folder), task=TASK, fresh_head=True, dtype="float32", seed=9)
    assert "drawn" not in capsys.readouterr().err
    wanted = load_classifier(f"tiny:{kind}", task=TASK, fresh_head=True, seed=3)
    assert torch.equal(logits(again, decisions()), logits(wanted, decisions()))


def test_a_student_with_other_classes_gets_another_head(tmp_path, capsys):
    folder = save_classifier("bert", tmp_path / "m", task=OTHER)
    student = build_student(StudentConfig(path=str(folder)), None, None, seed=0, task=TASK)
    assert logits(student.model.eval(), decisions()).shape == (3, 3)
    said = capsys.readouterr().err
    assert "its head is of [yes, no]" in said
    assert "classifier of 3 outputs" in said
    assert "pooler" not in said  # the files have one, and it goes with any classes


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        (OTHER, ["[yes, no]", "[low, mid, high]", "dataset.labels.names"]),
        (TASK.__class__(**{**vars(TASK), "names": ("high", "mid", "low")}), ["[high, mid, low]", "[low, mid, high]"]),
        (NUMBER, ["[score]", "this number"]),
    ],
)
def test_a_teacher_of_other_classes_is_refused(task, parts, tmp_path):
    folder = save_classifier("llama", tmp_path / "m", task=task)
    told = TeacherConfig(path=str(folder))
    wanted = TASK if task is not NUMBER else NUMBER.__class__(**{**vars(NUMBER), "names": ("fit",)})
    for refuse in (
        lambda: open_teacher(told, task=wanted),
        lambda: check_pair(StudentConfig(path="tiny:bert"), told, task=wanted),
    ):
        with pytest.raises(ValueError, match=r"teacher\.path=") as caught:
            refuse()
        assert "\n" not in str(caught.value)
        if task is not NUMBER:
            assert all(part in str(caught.value) for part in parts)


def test_a_teacher_of_another_column_or_template_is_told_of(tmp_path, capsys):
    folder = save_classifier("llama", tmp_path / "m")
    here = TASK.__class__(**{**vars(TASK), "column": "verbosity", "template": "Rate: {text}"})
    for task, told in ((here, True), (TASK, False)):
        check_pair(StudentConfig(path="tiny:bert"), TeacherConfig(path=str(folder)), task=task)
        said = capsys.readouterr().err
        assert (f"was trained to decide {TASK.column}, and dataset.labels.column=verbosity" in said) == told
        assert ("reads them here as 'Rate: {text}'" in said) == told


def test_a_pad_token_without_an_embedding_is_refused(tmp_path):
    folder, tokenizer = save_classifier("llama", tmp_path / "m"), byte_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<new>"})
    tokenizer.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"^path=.*pads with '<new>' \(id 259\), and its embedding has 259 entries"):
        load_classifier(str(folder), task=TASK, fresh_head=False)


def test_a_teacher_without_a_head_is_to_be_trained_first(tmp_path):
    folder = save_tiny("llama", tmp_path / "m")
    for refuse in (
        lambda: open_teacher(TeacherConfig(path=str(folder)), task=TASK),
        lambda: check_pair(StudentConfig(path="tiny:bert"), TeacherConfig(path=str(folder)), task=TASK),
    ):
        with pytest.raises(ValueError, match=r"no head that classifies; train it first .*student\.path="):
            refuse()


def test_a_damaged_teacher_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = save_classifier("llama", tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    for lost, message in (("score.weight", "lack 1 weights"), ("model.norm.weight", "lack 1 weights")):
        save_file({k: v for k, v in weights.items() if k != lost}, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(ValueError, match=f"{message}.*(score|norm)"):
            open_teacher(TeacherConfig(path=str(folder)), task=TASK)


@pytest.mark.parametrize(
    ("path", "parts"),
    [("tiny:t5", ["encoder-decoder", "dataset.labels"]), ("tiny:bart", ["encoder-decoder", "bert"])],
)
def test_encoder_decoders_are_refused(path, parts):
    with pytest.raises(ValueError, match=r"student\.path=tiny") as caught:
        build_student(StudentConfig(path=path), None, None, seed=0, task=TASK)
    assert all(part in str(caught.value) for part in parts)


def test_an_architecture_that_classifies_nothing_is_refused():
    with pytest.raises(ValueError, match="no sequence classifier of type codegen"):
        build_student(
            StudentConfig(architecture={"model_type": "codegen"}, tokenizer="tiny:llama"), None, None, seed=0, task=TASK
        )


def test_a_classifier_writes_no_text(tmp_path):
    folder = save_classifier("llama", tmp_path / "m")
    with pytest.raises(ValueError, match=r"a classifier, it cannot write text; set dataset\.labels"):
        load_language_model(str(folder), option="model.path")


@every_kind
def test_a_saved_classifier_is_a_plain_folder(kind, tmp_path):
    """Oracle: transformers' own class and its pipeline."""
    student = build_student(StudentConfig(path=f"tiny:{kind}"), None, None, seed=0, task=TASK)
    shaken(student.model)
    save_student(student.model, student.tokenizer, tmp_path, TASK)
    assert read_task(tmp_path) == TASK
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(logits(again, decisions()), logits(student.model, decisions()))
    texts = ["a good answer", "no"]
    told = pipeline("text-classification", model=str(tmp_path), top_k=None)(texts, batch_size=2)
    for text, found in zip(texts, told, strict=True):
        ids = torch.tensor([student.tokenizer(text).input_ids])
        shares = student.model(input_ids=ids).logits.softmax(-1)[0].tolist()
        assert {f["label"]: round(f["score"], 4) for f in found} == {
            name: round(share, 4) for name, share in zip(TASK.names, shares, strict=True)
        }


@every_kind
def test_a_cut_classifier_has_the_teachers_head(kind, tmp_path):
    teacher = load_teacher(TeacherConfig(path=str(save_classifier(kind, tmp_path)), dtype="float32"), task=TASK)
    config = StudentConfig(from_teacher=CutConfig(layers=[0]))
    student = build_student(config, teacher.model, teacher.tokenizer, seed=5, task=TASK)
    theirs, mine = teacher.model.state_dict(), student.model.state_dict()
    for head in head_names(teacher.model):
        names = [name for name in theirs if name.startswith(f"{head}.")]
        assert names
        assert all(torch.equal(mine[name], theirs[name]) for name in names)
    assert student.model.config.num_hidden_layers == 1
    assert student.model.config.id2label == teacher.model.config.id2label
    whole = StudentConfig(from_teacher=CutConfig(layers=2, pick="importance"))
    same = build_student(whole, teacher.model, teacher.tokenizer, seed=5, task=TASK).model.eval()
    assert torch.equal(logits(same, decisions()), logits(teacher.model, decisions()))


def test_a_bare_classifier_reads_with_its_own_tokenizer():
    architecture = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = StudentConfig(architecture=architecture, tokenizer="tiny:bert")
    first, same = (build_student(config, None, None, seed=1, task=TASK).model for _ in range(2))
    assert first.config.vocab_size == 259
    assert first.config.id2label[2] == "high"
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))


def test_any_tokenizers_go_together_and_are_told_apart():
    check_pair(StudentConfig(path="tiny:bert"), TeacherConfig(path="tiny:llama"), task=TASK)
    mine, other = byte_tokenizer(), byte_tokenizer()
    assert reads_alike(mine, other)
    other.pad_token = "<eos>"
    assert not reads_alike(mine, other)
    grown = byte_tokenizer()
    grown.add_tokens(["<more>"])
    assert not reads_alike(mine, grown)


def test_the_identity_of_a_classifier(tmp_path):
    folder = save_classifier("llama", tmp_path / "m")
    teacher = load_teacher(TeacherConfig(path=str(folder)), task=TASK)
    assert teacher.identity == source_hash(resolve(str(folder)))
    assert teacher.vocabulary == 3
    tiny = [load_teacher(TeacherConfig(path="tiny:llama"), task=task).identity for task in (TASK, TASK, OTHER)]
    assert tiny[0] == tiny[1] != tiny[2]
    assert load_teacher(TeacherConfig(path="tiny:llama")).identity not in tiny
    signal = teacher.signal(decisions(), torch.arange(3))
    assert torch.equal(signal.logits_NV, logits(teacher.model, decisions()))
    assert not signal.logits_NV.requires_grad


def test_families_beyond_the_tiny_ones():
    """Heads of several modules, and models that take no `use_cache`."""
    from transformers import AutoConfig

    small = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    small |= {"num_attention_heads": 4, "num_key_value_heads": 4, "pad_token_id": 0, "num_labels": 3}
    wanted = {
        "roberta": {"classifier"},
        "distilbert": {"pre_classifier", "classifier"},
        "deberta-v2": {"pooler", "classifier"},
        "modernbert": {"head", "classifier"},
        "qwen2": {"score"},
        "electra": {"classifier"},
    }
    for kind, heads in wanted.items():
        fields = {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4} if kind == "distilbert" else small
        config = AutoConfig.for_model(kind, **(small | fields))
        model = AutoModelForSequenceClassification.from_config(config).eval()
        assert {*head_names(model)} == heads, kind
        batch = decisions(entries=99)
        together = logits(model, batch)
        alone = model(input_ids=batch.input_ids_BT[1:2, :4]).logits
        torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-5, msg=kind)


def test_a_gguf_file_gets_a_head(tmp_path):
    pytest.importorskip("gguf")
    from ggufs import write_gguf

    file = write_gguf(random_model("qwen2"), tmp_path / "m.gguf")
    model = load_classifier(str(file), task=TASK, fresh_head=True, dtype="float32")
    assert logits(model, decisions(entries=97)).shape == (3, 3)


@pytest.mark.slow
def test_a_real_model_decides_alike_alone_and_in_company():
    student = build_student(StudentConfig(path="HuggingFaceTB/SmolLM2-135M-Instruct"), None, None, seed=0, task=TASK)
    model, tokenizer = student.model.eval(), student.tokenizer
    assert model.config.pad_token_id == tokenizer.pad_token_id
    texts = ["Is this any good?", "A much longer answer, which says more than it was asked for, and then some.", "No."]
    read = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
    labels = torch.zeros(3, 1, dtype=torch.long)
    batch = Batch(
        input_ids_BT=read.input_ids, attention_mask_BT=read.attention_mask, labels_BT=labels, shift=False, decides=True
    )
    together = logits(model, batch)
    for i, text in enumerate(texts):
        alone = model(**tokenizer(text, return_tensors="pt")).logits
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-3, atol=1e-3)


def test_a_model_of_a_hub_family_gets_a_pad_token(tmp_path):
    """GPT-2 names no pad token; a wrong id would give wrong logits without a word."""
    random_model("gpt2").save_pretrained(tmp_path)
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    model = load_classifier(str(tmp_path), task=TASK, fresh_head=True, dtype="float32")
    assert model.config.pad_token_id == tokenizer.pad_token_id
