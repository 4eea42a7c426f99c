"""What a card says: every number from a record, every licence from a header, nothing made up."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from scipy.stats import t

from kdlab.losses import LOSSES
from kdlab.publishing.figures import spread

Make = Callable[..., Any]


@pytest.fixture
def card(start: Make, tmp_path: Path) -> Callable[..., str]:
    def make(**options: Any) -> str:
        start(tmp_path / "job", **options)
        return (tmp_path / "job" / "README.md").read_text()

    return make


def row(text: str, first: str) -> list[str]:
    """The cells of the first row of a table that begins so."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_header_is_what_the_hub_reads(finished: Make, exported: Make, card: Make) -> None:
    run = finished()
    text = card(run=str(run), export=str(exported(run)), licence="cc-by-4.0")
    data = ModelCard(text).data.to_dict()
    assert data["license"] == "cc-by-4.0"
    assert data["library_name"] == "transformers"
    assert data["pipeline_tag"] == "text-classification"
    assert data["datasets"] == ["me/rows"]
    assert "base_model" not in data  # made in memory
    (index,) = data["model-index"]
    assert index["name"] == "student"
    (result,) = index["results"]
    assert result["dataset"]["type"] == "me/rows"
    assert {one["type"]: one["value"] for one in result["metrics"]} == {"accuracy": 0.7, "f1": pytest.approx(0.68)}


def test_one_run_has_wilsons_interval_and_the_sizes_as_measured(finished: Make, card: Make) -> None:
    text = card(run=str(finished()))
    assert row(text.partition("held-out rows")[0], "accuracy") == [
        "accuracy",
        "50.0 % (43.1 to 56.9)",
        "70.0 % (63.3 to 75.9)",
        "80.0 % (73.9 to 85.0)",
    ]
    assert row(text, "teacher")[1:5] == ["2,000", "–", "8.0 kB", "–"]
    assert row(text, "student")[1:5] == ["1,000", "500", "4.0 kB", "4.1 kB"]
    assert row(text, "temperature T")[1] == "4.0"
    assert row(text, "weight of the labels")[1] == "0.3"
    assert row(text, "train rows")[1] == "100 (low 60, high 40)"
    assert row(text, "code")[1] == "kdlab 0.1.0, `aaaaaaaaaaaa` with changes that are not committed"
    assert "bitsandbytes" not in text
    assert "a text of the data" not in text
    assert "2.0 times" not in text
    assert "2.000 times smaller" not in text
    assert "2.00 times smaller than its teacher" in text


def test_folds_have_the_corrected_interval(finished: Make, card: Make) -> None:
    values = [0.70, 0.74, 0.69]
    runs = [
        finished(f"fold{i}", accuracy=value, options={"dataset.fold": i, "dataset.folds": 5})
        for i, value in enumerate(values)
    ]
    text = card(run=str(runs[0]), extra_runs=[str(run) for run in runs[1:]])
    half = t.ppf(0.975, 2) * statistics.stdev(values) * math.sqrt(1 / 3 + 1 / 4)
    shown = f"{100 * statistics.fmean(values):.1f} % ± {100 * half:.1f} %"
    assert row(text.partition("held-out rows")[0], "accuracy")[2] == shown
    assert "3 runs that differ in dataset.fold" in text
    assert "Nadeau and Bengio" in text


def test_seeds_of_one_fold_are_one_repeat(finished: Make, card: Make) -> None:
    values = {(0, 0): 0.70, (0, 1): 0.76, (1, 0): 0.66, (1, 1): 0.68, (2, 0): 0.71, (2, 1): 0.71}
    runs = [
        finished(f"{fold}-{seed}", accuracy=value, options={"dataset.fold": fold, "dataset.folds": 5, "seed": seed})
        for (fold, seed), value in values.items()
    ]
    text = card(run=str(runs[0]), extra_runs=[str(run) for run in runs[1:]])
    folds = [0.73, 0.67, 0.71]
    half = t.ppf(0.975, 2) * statistics.stdev(folds) * math.sqrt(1 / 3 + 1 / 4)
    shown = f"{100 * statistics.fmean(folds):.1f} % ± {100 * half:.1f} %"
    assert row(text.partition("held-out rows")[0], "accuracy")[2] == shown
    assert "their mean counts as one of n" in text
    assert "accuracy, mean of 3 folds" in text


def test_seeds_have_students_interval_and_other_arms_their_own_row(finished: Make, card: Make) -> None:
    runs = [finished(f"seed{i}", accuracy=0.7 + i / 100, options={"seed": i}) for i in range(3)]
    other = finished("hard", accuracy=0.6, options={"optimizer.lr": 0.5})
    text = card(run=str(runs[0]), extra_runs=[str(run) for run in [*runs[1:], other]])
    half = t.ppf(0.975, 2) * statistics.stdev([0.7, 0.71, 0.72]) / math.sqrt(3)
    assert row(text.partition("held-out rows")[0], "accuracy")[2] == f"71.0 % ± {100 * half:.1f} %"
    assert row(text, "this model")[1] == "3"
    assert row(text, "optimizer.lr=0.5")[1:3] == ["1", "60.0 % (53.1 to 66.5)"]


def test_the_mean_of_equal_repeats_has_no_width() -> None:
    assert spread([0.5, 0.5, 0.5]).half_width == 0
    assert spread([0.5]).half_width is None


def test_licences_come_from_headers_and_are_never_invented(
    finished: Make, card: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\nA model.\n")
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "rows.jsonl").write_text("{}")
    (rows / "README.md").write_text("no header")
    (rows / "LICENSE").write_text("Do as you like.")
    options = {"student.path": str(base), "dataset.path": str(rows / "rows.jsonl"), "teacher.path": "who/knows"}
    text = card(run=str(finished(options=options)))
    assert ModelCard(text).data.license == "apache-2.0"
    assert row(text, "dataset `…/rows/rows.jsonl`")[1] == "**unknown**: read the file LICENSE beside it"
    assert row(text, "teacher `who/knows`")[1] == "**unknown**"
    assert "**Warning:**" in text
    assert "licence unknown of: dataset " in capsys.readouterr().err


def test_the_chain_goes_through_what_kdlab_trained(finished: Make, card: Make, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: mit\n---\n")
    teacher = finished("teacher", options={"student.path": str(base), "teacher.source": "none"})
    run = finished(options={"teacher.path": str(teacher / "model"), "student.path": "tiny:llama"})
    text = card(run=str(run))
    assert row(text, f"teacher `…/{'/'.join(base.parts[-2:])}`")[1] == "mit"
    assert row(text, "this model")[1] == "**unknown**"
    assert "| base model " not in text


def test_a_model_that_writes_text(finished: Make, card: Make) -> None:
    told = {"rows": 10, "perplexity": 12.5, "nll": 2.5257, "generation": {"accuracy": {"correct": 3, "count": 8}}}
    run = finished(metrics={"teacher": None, "before": told, "after": told}, data={"train": {"examples": 9}})
    (run / "model" / "kdlab_task.json").unlink()
    text = card(run=str(run))
    assert ModelCard(text).data.pipeline_tag == "text-generation"
    assert "AutoModelForCausalLM" in text
    assert row(text, "perplexity")[2] == "12.50"
    assert row(text, "accuracy of written answers")[2].startswith("37.5 %")


def test_how_to_use_is_code_that_python_reads(finished: Make, exported: Make, card: Make) -> None:
    run = finished()
    text = card(run=str(run), export=str(exported(run)))
    code = text.partition("```python\n")[2].partition("```")[0]
    compile(code, "card", "exec")
    assert "'prompt'" not in code
    assert "prompt=..., response=..." in code
    assert 'kdlab predict student --field prompt="..." --field response="..."' in text
    assert "kdlab predict student/variants/onnx_int8 " in text
    assert row(text, "onnx_int8")[3] == "98.0 %"
    assert "| nf4 |" not in text


@pytest.mark.parametrize("loss", [LOSSES["hard"](), LOSSES["forward_kl"](hard_weight=1.0)])
def test_a_control_with_a_teacher_beside_it_is_not_called_distilled(finished: Make, card: Make, loss: Any) -> None:
    told = dataclasses.asdict(loss)
    text = card(run=str(finished(options={"loss": told}, loss=told | {"name": "hard"})))
    assert "trained on labels alone with kdlab" in text
    assert "istill" not in text
    assert row(text, "measured beside it, taught nothing")
    assert "temperature T" not in text
    inner = {"inner": {"hidden": {"weight": 1.0}, "attention": None, "relation": None}}
    assert ", distilled from " in card(run=str(finished("inner", options={"loss": told, **inner})))


def test_the_same_records_give_the_same_bytes(finished: Make, card: Make) -> None:
    run = finished()
    assert card(run=str(run)) == card(run=str(run))
    record = json.loads((run / "run.json").read_text())
    assert record["samples"], "the run itself is left as it is"
