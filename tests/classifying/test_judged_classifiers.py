"""`kdlab evaluate` of a classifier: its decisions, what they are worth, and going on after a kill."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from kdlab.answering.answers_file import AnswersFile
from kdlab.answering.recipe import EvaluateConfig, ModelConfig, WritingConfig
from kdlab.classifying.evaluating import evaluate_classifier
from kdlab.data.dataset import DatasetConfig
from kdlab.data.labelled.record import write_split
from kdlab.data.labelled.rows import read_labelled
from kdlab.data.labels import LabelsConfig
from kdlab.exporting.variants import open_variant
from kdlab.models.classifier import load_classifier
from kdlab.models.tiny import byte_tokenizer
from kdlab.models.writing import save_student
from kdlab.reporting.evaluations import read_evaluation
from kdlab.reporting.questions import Answered, pair_rows
from kdlab.text.task import Task

NAMES = ("bad", "fair", "good")


def task(**changes: Any) -> Task:
    told: dict[str, Any] = {"kind": "classification", "names": NAMES, "column": "rating", "max_length": 32}
    return Task(**{**told, "template": "{ask} -> {text}", **changes})


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 rows to learn from, 20 to judge by."""
    folder, rng = tmp_path_factory.mktemp("rows"), random.Random(0)
    made = [
        {"ask": f"ask {i}", "text": f"{i} " + "word " * rng.randrange(1, 9), "rating": NAMES[rng.randrange(3)]}
        for i in range(80)
    ]
    for name, part in (("train", made[:60]), ("test", made[60:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`model(seed=1, names=...)`: the folder of a tiny random classifier."""

    def make(seed: int = 0, **changes: Any) -> Path:
        folder = tmp_path_factory.mktemp("model")
        of = task(**changes)
        found = load_classifier("tiny:bert", task=of, fresh_head=True, seed=seed).eval()
        texts = byte_tokenizer()([f"ask {i} -> {i} " + "word " * (i % 8) for i in range(40)])["input_ids"]
        with torch.no_grad():  # so that it does not say the same of every row
            found.classifier.weight.mul_(40)
            logits_NC = torch.cat([found(input_ids=torch.tensor([ids[-32:]])).logits for ids in texts])
            found.classifier.bias.sub_(logits_NC.mean(0))
        save_student(found, byte_tokenizer(), folder, of)
        return folder

    return make


@pytest.fixture
def judge(rows: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(
        path: Path, folder: str = "job", *, labels: dict[str, Any] | None = None, dataset: Any = None, **options: Any
    ) -> dict[str, Any]:
        told = LabelsConfig(**{"column": "rating", "names": list(NAMES), **(labels or {})})
        where = {"path": str(rows / "train.jsonl"), "test_path": str(rows / "test.jsonl"), **(dataset or {})}
        config = EvaluateConfig(
            model=ModelConfig(path=str(path)),
            dataset=DatasetConfig(**where, labels=told),
            writing=WritingConfig(batch_size=6, accelerator="cpu", progress=False, **options),
        )
        resolved = dataclasses.asdict(config)
        return evaluate_classifier(
            config, output_dir=tmp_path / folder, resolved=resolved, overrides=[f"name={folder}"]
        )

    return run


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "decisions.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_every_figure_is_that_of_scikit_learn(
    model: Callable[..., Path], judge: Callable[..., Any], rows: Path, tmp_path: Path, capsys: Any
) -> None:
    path = model()
    record = judge(path)
    decided = lines(tmp_path / "job")
    given = [json.loads(line) for line in (rows / "test.jsonl").read_text().splitlines()]
    assert [one["row"] for one in decided] == list(range(20))
    assert [one["label"] for one in decided] == [row["rating"] for row in given]
    variant = open_variant(path)
    texts = [f"{row['ask']} -> {row['text']}" for row in given]
    for one, text in zip(decided, texts, strict=True):
        ids = variant.tokenizer(text)["input_ids"]
        if len(ids) <= 32:
            logits = torch.tensor(variant.logits([ids]), dtype=torch.float64)
            torch.testing.assert_close(
                torch.tensor(one["probabilities"]).double(), logits.softmax(1)[0], atol=1e-5, rtol=0
            )
            assert one["predicted"] == NAMES[int(logits.argmax())]
    true, said = [one["label"] for one in decided], [one["predicted"] for one in decided]
    assert len(set(said)) > 1
    found = record["classification"]
    assert found["accuracy"] == accuracy_score(true, said)
    assert found["macro_f1"] == pytest.approx(f1_score(true, said, labels=NAMES, average="macro", zero_division=0))
    assert found["weighted_f1"] == pytest.approx(
        f1_score(true, said, labels=NAMES, average="weighted", zero_division=0)
    )
    assert found["confusion"] == confusion_matrix(true, said, labels=NAMES).tolist()
    train = [json.loads(line)["rating"] for line in (rows / "train.jsonl").read_text().splitlines()]
    commonest = max(NAMES, key=train.count)
    assert found["majority_accuracy"] == pytest.approx(true.count(commonest) / 20)
    assert record["accuracy"] == {"correct": sum(t == s for t, s in zip(true, said, strict=True)), "count": 20} | {
        "unresolved": 0,
        "manual": 0,
    }
    assert (found["part"], found["rows"]) == ("test", 20)
    assert found["latency"]["p95_ms"] >= found["latency"]["p50_ms"] > 0
    assert "always the commonest class" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_job_goes_on_and_ends_as_an_unbroken_one(
    model: Callable[..., Path], judge: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model()
    judge(path, "whole")
    append, written = AnswersFile.append, [0]

    class Killed(BaseException):
        pass

    def dying(self: AnswersFile, answers: Any) -> None:
        written[0] += 1
        if written[0] == 3:
            raise Killed
        append(self, answers)

    with monkeypatch.context() as patched:
        patched.setattr(AnswersFile, "append", dying)
        with pytest.raises(Killed):
            judge(path, "killed")
    begun = tmp_path / "killed" / "decisions.jsonl"
    assert len(lines(tmp_path / "killed")) == 12
    begun.write_bytes(begun.read_bytes()[:-9])  # the disk had not all of it
    record = judge(path, "killed")
    assert begun.read_bytes() == (tmp_path / "whole" / "decisions.jsonl").read_bytes()
    assert record["resumed"] == 1
    assert record["answer_count"] == 20
    again = judge(path, "killed")
    assert again["finished"] == record["finished"]


@pytest.mark.slow
def test_other_weights_or_rows_do_not_go_on(
    model: Callable[..., Path], judge: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = model(seed=1), model(seed=2)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(AnswersFile, "append", stop)
        with pytest.raises(KeyboardInterrupt):
            judge(path)
    (path / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"model \(weights\)="):
        judge(path)


@pytest.mark.slow
def test_the_order_of_classes_is_the_models_and_the_rows_are_read_by_its_template(
    model: Callable[..., Path], judge: Callable[..., Any], tmp_path: Path, capsys: Any
) -> None:
    path = model(names=("good", "bad", "fair"))
    record = judge(path, labels={"template": "{text}"})
    assert record["classification"]["names"] == ["good", "bad", "fair"]
    assert "rows are read by the model's own template '{ask} -> {text}'" in capsys.readouterr().err
    for one in lines(tmp_path / "job"):
        best = max(range(3), key=lambda i: one["probabilities"][i])
        assert one["predicted"] == ["good", "bad", "fair"][best]
        assert one["correct"] == (one["predicted"] == one["label"])


@pytest.mark.slow
def test_without_test_rows_the_held_out_ones_are_judged(model: Callable[..., Path], judge: Callable[..., Any]) -> None:
    record = judge(model(), dataset={"test_path": None, "heldout": 0.25}, examples=10)
    assert (record["classification"]["part"], record["classification"]["rows"]) == ("heldout", 10)


@pytest.mark.slow
def test_some_rows_are_drawn_and_not_the_first(
    model: Callable[..., Path], judge: Callable[..., Any], tmp_path: Path
) -> None:
    path = model()
    for folder in ("job", "again"):
        judge(path, folder, examples=6)
    chosen = [[one["row"] for one in lines(tmp_path / folder)] for folder in ("job", "again")]
    assert chosen[0] == chosen[1] == sorted(chosen[0])
    assert len(set(chosen[0])) == 6
    assert chosen[0] != list(range(6))


@pytest.mark.slow
def test_rows_that_the_model_has_learnt_from_are_told_of(
    model: Callable[..., Path],
    judge: Callable[..., Any],
    rows: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The model of fold 0 is judged by fold 1."""
    run = tmp_path / "run"
    shutil.copytree(model(), run / "model")
    labels = LabelsConfig(column="rating", names=list(NAMES))
    config = DatasetConfig(path=str(rows / "train.jsonl"), labels=labels, fold=0, folds=4)
    write_split(read_labelled(config), run)
    for fold, count in ((0, 0), (1, 15)):
        record = judge(run / "model", f"fold {fold}", dataset={"test_path": None, "fold": fold, "folds": 4})
        said = f"has learnt from {count} of the 15 heldout rows, so what is measured on them flatters"
        assert [said in note for note in record["data"]["notes"]] == [True] * bool(count)
        assert (said in capsys.readouterr().out) == bool(count)


def test_a_number_is_judged_by_its_distance(
    model: Callable[..., Path], judge: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "numbers.jsonl"
    made = [{"ask": f"ask {i}", "text": "word " * (i % 7), "score": float(i % 5)} for i in range(40)]
    file.write_text("".join(json.dumps(row) + "\n" for row in made))
    path = model(kind="regression", names=("score",), column="score")
    record = judge(
        path,
        labels={"column": "score", "names": None, "regression": True},
        dataset={"path": str(file), "test_path": None, "heldout": 8},
    )
    decided = lines(tmp_path / "job")
    gaps = [one["predicted"] - one["label"] for one in decided]
    assert record["regression"]["rmse"] == pytest.approx((sum(gap * gap for gap in gaps) / len(gaps)) ** 0.5)
    assert record["classification"] is None
    assert record["accuracy"]["count"] == 0


@pytest.mark.slow
def test_two_classifiers_are_compared_over_the_same_rows(
    model: Callable[..., Path], judge: Callable[..., Any], tmp_path: Path
) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        judge(model(seed=seed), name)
    first, second = (read_evaluation(tmp_path / name / "evaluation.json") for name in ("a", "b"))
    assert first.right is not None
    assert second.right is not None
    ((_, count, *_),), _ = pair_rows([Answered(label="a", right=first.right), Answered(label="b", right=second.right)])
    assert count == "20"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"names": ("bad", "good", "great")},
            "decides between bad, good, great, but dataset.labels makes bad, fair, good",
        ),
        ({"kind": "regression", "names": ("rating",)}, "its task is regression, but that of the rows classification"),
        ({"template": "{missing}"}, "missing"),
    ],
)
def test_a_model_of_another_task_is_refused(
    model: Callable[..., Path], judge: Callable[..., Any], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as told:
        judge(model(**changes))
    assert "\n" not in str(told.value)
