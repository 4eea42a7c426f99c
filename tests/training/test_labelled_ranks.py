"""Two processes that learn classes or numbers do as one does, and leave the files of one."""

from __future__ import annotations

import csv
import json

import pytest
from two_ranks import train_by_two

from kdlab.data.dataset import DatasetConfig
from kdlab.data.labels import LabelsConfig
from kdlab.losses import ALL_LOSSES
from kdlab.models.classifier import load_classifier
from kdlab.models.student import StudentConfig
from kdlab.models.tiny import byte_tokenizer
from kdlab.models.writing import save_student
from kdlab.teachers.options import TeacherConfig
from kdlab.text.task import Task
from kdlab.training.recipe import BenchmarkConfig

NAMES = ("bad", "good", "meh")


@pytest.fixture
def classify(job, tmp_path):
    """26 rows of three classes to learn from, which steps of 8 do not divide, 13 held out and 6 to judge by."""
    lines = [
        {"text": f"{i} " + "abc "[: 2 + i % 3] * (1 + i % 5), "label": NAMES[i % 3], "score": i % 4} for i in range(45)
    ]
    for name, part in (("rows", lines[:39]), ("test", lines[39:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in part))
    for kind, names in (("classification", NAMES), ("regression", ("score",))):
        task = Task(kind=kind, names=names, column="label", template="{text}", max_length=32)
        teacher = load_classifier("tiny:llama", task=task, fresh_head=True, seed=5)
        save_student(teacher, byte_tokenizer(), tmp_path / kind, task)

    def make(*, kind, batch_size, **options):
        regression = kind == "regression"
        labels = LabelsConfig(
            column="score" if regression else "label",
            regression=regression,
            template="{text}",
            weights="none" if regression else "balanced",
        )
        rows, test = (str(tmp_path / f"{name}.jsonl") for name in ("rows", "test"))
        where = {"path": rows, "test_path": test, "cache_dir": str(tmp_path / "cache")}
        return job(
            dataset=DatasetConfig(**where, labels=labels, max_length=32, fold=0, folds=3),
            loss=ALL_LOSSES["squared_error" if regression else "forward_kl"](hard_weight=0.3),
            teacher=TeacherConfig(path=str(tmp_path / kind)),
            student=StudentConfig(path="tiny:llama"),
            benchmark=BenchmarkConfig(samples=2),
            **{"batch_size": batch_size, "max_steps": 8, "evaluate_every": 4, "ema": 0.9, **options},
        )

    return make


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_two_ranks_of_4_are_one_of_8_where_rows_have_labels(kind, classify, start, tmp_path):
    record = start(classify(kind=kind, batch_size=8), tmp_path / "one")
    assert train_by_two(classify(kind=kind, batch_size=4, devices=2), tmp_path / "two") == [0, 0]
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    told = [[(row["step"], row["phase"], row["rows"], row["tokens"]) for row in run] for run in (one, two)]
    assert told[0] == told[1]
    for column in ("loss", "divergence", "hard", "gradient_norm", "kl", "nll", "accuracy", "macro_f1", "rmse"):
        ours = [float(row[column]) for row in two if row[column]]
        assert ours == pytest.approx([float(row[column]) for row in one if row[column]], rel=1e-4), column
    again = json.loads((tmp_path / "two" / "run.json").read_text())
    assert (again["status"], again["steps"], again["data"]) == ("finished", 8, record["data"])
    for who in ("teacher", "before", "after"):
        ours, theirs = again["metrics"][who], record["metrics"][who]
        assert ours.keys() == theirs.keys()
        assert ours["test"]["rows"] == theirs["test"]["rows"] == 6
        for name in ("rmse",) if kind == "regression" else ("accuracy", "nll"):
            for found, wanted in ((ours, theirs), (ours["test"], theirs["test"])):
                assert found[name] == pytest.approx(wanted[name], rel=1e-4)
    assert (tmp_path / "two" / "folds.json").read_bytes() == (tmp_path / "one" / "folds.json").read_bytes()
    assert not list((tmp_path / "two").rglob("*.writing"))
