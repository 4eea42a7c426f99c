"""Classifiers trained from end to end: tiny models, each with its own tokenizer, judged again by plain transformers."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

from kdlab.data.dataset import DatasetConfig
from kdlab.data.labels import LabelsConfig
from kdlab.losses import ALL_LOSSES
from kdlab.losses.engine import row_loss
from kdlab.models.classifier import load_classifier
from kdlab.models.student import StudentConfig
from kdlab.models.tiny import byte_tokenizer
from kdlab.models.writing import save_student
from kdlab.teachers.options import TeacherConfig
from kdlab.text.task import Task, read_task
from kdlab.training.metrics_file import CLOCK
from kdlab.training.recipe import BenchmarkConfig, CheckpointConfig, EarlyStoppingConfig

NAMES = ("bad", "good", "meh")
LETTERS = {"bad": "xyz ", "good": "abc ", "meh": "mno "}


def lines(count, *, start=0):
    """Rows of three classes in the ratio 3:2:1, of different lengths."""
    for i in range(start, start + count):
        label = ("bad", "good", "bad", "meh", "bad", "good")[i % 6]
        yield {"text": f"{i} " + LETTERS[label] * (1 + i % 4), "label": label, "score": float(i % 6)}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    for name, count, start in (("rows", 36, 0), ("test", 12, 100)):
        text = "".join(json.dumps(line) + "\n" for line in lines(count, start=start))
        (folder / f"{name}.jsonl").write_text(text)
    return folder


def other_tokenizer():
    """The bytes under other ids, in one token for two where a text has "ab", and behind a <bos>."""
    spec = json.loads(byte_tokenizer().backend_tokenizer.to_str())
    vocabulary = spec["model"]["vocab"]
    last = max(vocabulary.values())
    spec["model"]["vocab"] = {token: i if i < 3 else last + 3 - i for token, i in vocabulary.items()} | {"ab": last + 1}
    spec["model"]["merges"] = [["a", "b"]]
    bos = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    spec["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [bos, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<bos>": {"id": "<bos>", "ids": [1], "tokens": ["<bos>"]}},
    }
    core = Tokenizer.from_str(json.dumps(spec))
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Folders of tiny llama classifiers, of classes and of a number, whose tokenizer is not the student's."""
    found = {}
    for kind, names in (("classification", NAMES), ("regression", ("score",))):
        task = Task(kind=kind, names=names, column="label", template="{text}", max_length=32)
        folder = tmp_path_factory.mktemp(kind)
        model = load_classifier("tiny:llama", task=task, fresh_head=True, seed=7)
        model.resize_token_embeddings(260)
        save_student(model, other_tokenizer(), folder, task)
        found[kind] = str(folder)
    return found


@pytest.fixture
def classify(job, labelled, teachers):
    """`classify(regression=True, max_steps=3)`: a config; names of dataset options go to the dataset."""

    def make(*, regression=False, weights="none", test=False, fold=0, loss=None, teacher=None, student=None, **options):
        labels = LabelsConfig(
            column="score" if regression else "label", regression=regression, template="{text}", weights=weights
        )
        dataset = DatasetConfig(
            path=str(labelled / "rows.jsonl"),
            test_path=str(labelled / "test.jsonl") if test else None,
            cache_dir=str(labelled / "cache"),
            max_length=32,
            labels=labels,
            fold=fold,
            folds=3,
        )
        kind = "regression" if regression else "classification"
        name = "squared_error" if regression else "forward_kl"
        return job(
            **{
                "dataset": dataset,
                "loss": loss or ALL_LOSSES[name](hard_weight=0.5),
                "teacher": teacher or TeacherConfig(path=teachers[kind]),
                "student": student or StudentConfig(path="tiny:llama"),
                "benchmark": BenchmarkConfig(samples=2, speed=False),
                **options,
            }
        )

    return make


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in CLOCK} for row in csv.DictReader(file)]


def part(folder, name):
    """The lines of one part, by the rows of folds.json."""
    found = json.loads((folder / "folds.json").read_text())["parts"][name]["rows"]
    every = list(lines(12, start=100)) if name == "test" else list(lines(36))
    return [every[i] for i in found]


def logits_of(folder, texts):
    """What plain transformers says, a text at a time and without padding, in float64."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).double().eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in texts])


def classes_of(found):
    return torch.tensor([NAMES.index(line["label"]) for line in found])


def test_both_models_are_judged_as_plain_transformers_judges_them(classify, start, teachers, tmp_path, capsys):
    record = start(
        classify(test=True, loss=ALL_LOSSES["forward_kl"](temperature=2.0, hard_weight=0.3), max_steps=2), tmp_path
    )
    metrics = record["metrics"]
    for name, of in (("heldout", lambda found: found), ("test", lambda found: found["test"])):
        found = part(tmp_path, name)
        texts, labels_N = [line["text"] for line in found], classes_of(found)
        student_NC, teacher_NC = (logits_of(path, texts) for path in (tmp_path / "model", teachers["classification"]))
        for who, logits_NC in (("after", student_NC), ("teacher", teacher_NC)):
            told = of(metrics[who])
            assert told["rows"] == len(found)
            assert told["accuracy"] == pytest.approx((logits_NC.argmax(1) == labels_N).double().mean().item())
            assert told["nll"] == pytest.approx(torch.nn.functional.cross_entropy(logits_NC, labels_N).item(), rel=1e-4)
            assert np.array(told["confusion"]).sum() == len(found)
            assert "perplexity" not in told
        told, (logq_NC, logp_NC) = of(metrics["after"]), (student_NC.log_softmax(1), teacher_NC.log_softmax(1))
        assert told["kl"] == pytest.approx((logp_NC.exp() * (logp_NC - logq_NC)).sum(1).mean().item(), rel=1e-3)
        agreed = (student_NC.argmax(1) == teacher_NC.argmax(1)).double().mean().item()
        assert told["top1_agreement"] == pytest.approx(agreed)
        # "bad" is the commonest class to learn from
        assert told["majority_accuracy"] == pytest.approx((labels_N == 0).double().mean().item())
    said = capsys.readouterr().out
    assert f"held-out after: accuracy {metrics['after']['accuracy']:.1%} (always the commonest class: " in said
    assert f"on the test rows accuracy {metrics['after']['test']['accuracy']:.1%}" in said


def test_what_a_run_of_classes_leaves_behind(classify, start, tmp_path):
    config = classify(test=True, benchmark=BenchmarkConfig(samples=2, speed=True), max_steps=2, evaluate_every=1)
    record = start(config, tmp_path)
    assert read_task(tmp_path / "model") == Task(
        kind="classification", names=NAMES, column="label", template="{text}", max_length=32
    )
    told = json.loads((tmp_path / "model" / "config.json").read_text())
    assert told["id2label"] == {"0": "bad", "1": "good", "2": "meh"}
    assert record["files"]["folds"] == "folds.json"
    assert record["data"]["classes"]["names"] == list(NAMES)
    assert (record["data"]["folds"]["fold"], record["data"]["folds"]["folds"]) == (0, 3)
    weights = sum(file.stat().st_size for file in (tmp_path / "model").glob("*.safetensors"))
    assert record["models"]["student"]["disk_bytes"] == weights
    assert record["models"]["student"]["bytes"] > 0
    for who in ("teacher", "before", "after"):
        found = record["metrics"][who]
        assert 0 < found["latency"]["p50_ms"] <= found["latency"]["p95_ms"]
        assert found["latency"]["examples_per_second"] > 0
        assert found["tokens_per_second"] > 0
        assert "latency" not in found["test"]
    assert [sorted(sample) for sample in record["samples"]] == [["after", "before", "prompt", "teacher"]] * 2
    first = record["samples"][0]
    assert first["prompt"].endswith(f"[label: {part(tmp_path, 'heldout')[0]['label']}]")
    assert all(first[who].split(" ")[0] in NAMES for who in ("teacher", "before", "after"))
    evaluated = [row for row in rows(tmp_path) if row["phase"] == "heldout"]
    assert [row["step"] for row in evaluated] == ["0", "1", "2"]
    for row, who in ((evaluated[0], "before"), (evaluated[-1], "after")):
        assert float(row["accuracy"]) == record["metrics"][who]["accuracy"]
        assert float(row["macro_f1"]) == record["metrics"][who]["macro_f1"]
        assert (row["rmse"], row["perplexity"]) == ("", "")


def test_one_step_is_that_of_plain_autograd(classify, start, teachers, tmp_path):
    """Balanced weights: N / (C N_c) over the training rows, on the labels' term alone."""
    task = Task(kind="classification", names=NAMES, column="label", template="{text}", max_length=32)
    save_student(load_classifier("tiny:llama", task=task, fresh_head=True, seed=3), byte_tokenizer(), tmp_path / "s")
    config = classify(
        weights="balanced",
        loss=ALL_LOSSES["forward_kl"](temperature=2.0, hard_weight=0.3),
        student=StudentConfig(path=str(tmp_path / "s")),
        max_steps=1,
        batch_size=9,
        accumulate=3,
        clip=0.0,
    )
    start(config, tmp_path / "run")
    found = part(tmp_path / "run", "train")
    texts, labels_N = [line["text"] for line in found], classes_of(found)
    count_C = torch.bincount(labels_N)
    teacher_NC = logits_of(teachers["classification"], texts)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "s").double()
    student_NC = torch.cat([model(torch.tensor([byte_tokenizer()(text).input_ids])).logits for text in texts])
    logq_NC, logp_NC = ((logits_NC / 2).log_softmax(1) for logits_NC in (student_NC, teacher_NC))
    divergence_N = (logp_NC.exp() * (logp_NC - logq_NC)).sum(1)
    hard_N = torch.nn.functional.cross_entropy(student_NC, labels_N, reduction="none")
    hard_N = hard_N * (len(labels_N) / (3 * count_C))[labels_N]
    loss = (0.7 * 4 * divergence_N + 0.3 * hard_N).mean()
    loss.backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
    (row,) = [row for row in rows(tmp_path / "run") if row["phase"] == "train"]
    assert int(row["rows"]) == len(found) == 24
    assert float(row["loss"]) == pytest.approx(loss.item(), rel=1e-4)
    assert float(row["divergence"]) == pytest.approx(divergence_N.mean().item(), rel=1e-4)
    assert float(row["hard"]) == pytest.approx(hard_N.mean().item(), rel=1e-4)
    assert float(row["gradient_norm"]) == pytest.approx(norm.item(), rel=1e-3)


def test_mixed_precision_rounds_the_body_and_not_the_logits(classify, start, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("kdlab.training.module.row_loss", lambda *a, **k: seen.append(a[1]) or row_loss(*a, **k))
    found = {}
    for precision in ("32", "bf16-mixed"):
        start(classify(precision=precision, max_steps=1, batch_size=24), tmp_path / precision)
        (found[precision],) = [row for row in rows(tmp_path / precision) if row["phase"] == "train"]
    for read in seen:
        for side in (read.student.logits_NV, read.teacher.logits_NV):
            assert side.dtype == torch.float32
            assert not torch.equal(side, side.bfloat16().float())
    exact_NC, mixed_NC = (read.student.logits_NV for read in seen)
    assert 0 < (mixed_NC - exact_NC).norm() < 0.02 * exact_NC.norm()
    for column, near in (("loss", 0.005), ("divergence", 0.02), ("hard", 0.005), ("gradient_norm", 0.03)):
        assert float(found["bf16-mixed"][column]) == pytest.approx(float(found["32"][column]), rel=near), column


@pytest.mark.slow
def test_a_killed_run_of_classes_continues_bit_for_bit(classify, start, kill_after, tmp_path):
    config = classify(weights="balanced", test=True, ema=0.5, max_steps=4)
    whole = start(config, tmp_path / "whole")
    for row in (1, 6):  # before the first checkpoint, and after it
        folder = tmp_path / f"killed at {row}"
        with kill_after(row):
            start(config, folder)
        record = start(config, folder)
        assert record["resumed"] == (row > 1)
        assert rows(folder) == rows(tmp_path / "whole")
        for key in ("steps", "tokens", "metrics", "samples", "data", "files"):
            assert record[key] == whole[key], key
        for name in ("model/model.safetensors", "model/kdlab_task.json", "folds.json"):
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_another_fold_does_not_continue_a_run(classify, start, kill_after, tmp_path):
    with kill_after(4):
        start(classify(), tmp_path)
    with pytest.raises(ValueError, match=r"dataset\.fold=1 \(was 0\).*checkpoint"):
        start(classify(fold=1), tmp_path)


def test_a_number_is_learnt_from_teacher_and_labels(classify, start, teachers, tmp_path):
    record = start(classify(regression=True, test=True, student=StudentConfig(path="tiny:bert"), max_steps=2), tmp_path)
    for name, of in (("heldout", lambda found: found), ("test", lambda found: found["test"])):
        found = part(tmp_path, name)
        labels_N = np.array([line["score"] for line in found])
        for who, folder in (("after", tmp_path / "model"), ("teacher", teachers["regression"])):
            given_N = logits_of(folder, [line["text"] for line in found])[:, 0].numpy()
            told = of(record["metrics"][who])
            assert told["rmse"] == pytest.approx(np.sqrt(np.mean((given_N - labels_N) ** 2)), rel=1e-4)
            assert told["pearson"] == pytest.approx(np.corrcoef(given_N, labels_N)[0, 1], rel=1e-3)
            assert not {"nll", "kl", "perplexity", "accuracy"} & set(told)
    mean = np.mean([line["score"] for line in part(tmp_path, "train")])
    labels_N = np.array([line["score"] for line in part(tmp_path, "heldout")])
    assert record["metrics"]["after"]["mean_rmse"] == pytest.approx(np.sqrt(np.mean((mean - labels_N) ** 2)))
    evaluated = [row for row in rows(tmp_path) if row["phase"] == "heldout"]
    assert float(evaluated[-1]["rmse"]) == record["metrics"]["after"]["rmse"]
    assert read_task(tmp_path / "model").is_regression


def test_a_teacher_that_knows_the_held_out_rows_is_told_of(classify, start, tmp_path, capsys):
    """A teacher of fold 0, and a student of fold 1 or 0."""
    alone = {"teacher": TeacherConfig(source="none"), "loss": ALL_LOSSES["hard"](), "max_steps": 1}
    start(classify(test=True, **alone), tmp_path / "teacher")
    for fold, seen in ((0, False), (1, True)):
        capsys.readouterr()
        teacher = TeacherConfig(path=str(tmp_path / "teacher" / "model"))
        record = start(classify(test=True, fold=fold, teacher=teacher, max_steps=1), tmp_path / f"student {fold}")
        said = "has learnt from 12 of the 12 heldout rows, so what is measured on them flatters"
        assert [said in note for note in record["data"]["folds"]["notes"]] == [True] * seen
        assert (said in capsys.readouterr().out) == seen


def test_labels_alone_and_the_best_by_accuracy(classify, start, tmp_path):
    rules = CheckpointConfig(every_steps=None, every_epochs=None, monitor="accuracy", final="best")
    config = classify(
        teacher=TeacherConfig(source="none"),
        loss=ALL_LOSSES["hard"](),
        student=StudentConfig(path="tiny:llama"),
        max_steps=6,
        evaluate_every=1,
        checkpoint=rules,
    )
    config = replace(config, optimizer=replace(config.optimizer, lr=0.05))  # up and down
    record = start(config, tmp_path)
    accuracies = [float(row["accuracy"]) for row in rows(tmp_path) if row["phase"] == "heldout"][1:]
    assert len(set(accuracies)) > 1
    assert record["metrics"]["after"]["accuracy"] == max(accuracies)
    assert record["metrics"]["teacher"] is None
    assert "kl" not in record["metrics"]["after"]
    found = part(tmp_path, "heldout")
    logits_NC = logits_of(tmp_path / "model", [line["text"] for line in found])
    assert max(accuracies) == pytest.approx((logits_NC.argmax(1) == classes_of(found)).double().mean().item())


def test_early_stopping_by_f1_wants_it_to_rise(classify, start, tmp_path):
    rule = EarlyStoppingConfig(monitor="macro_f1", patience=1, min_delta=1.0)  # no F1 rises by one
    record = start(classify(early_stopping=rule, evaluate_every=1, max_steps=6), tmp_path)
    assert (record["status"], record["steps"]) == ("stopped_early", 2)
