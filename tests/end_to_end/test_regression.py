"""A number instead of classes, as a user does it: train, export, judge, predict; each told from plain transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from kdlab.cli import main

DATA = ["dataset.path=rows.jsonl", "dataset.test_path=test.jsonl", "dataset.labels.column=score"]
DATA += ["dataset.labels.regression=true", "dataset.labels.template='{text}'", "dataset.fold=0", "dataset.folds=3"]
TRAINER = ["max_steps=4", "batch_size=8", "accelerator=cpu", "progress=false"]
ALONE = ["teacher=none", "student=pretrained", "student.path=tiny:llama", "loss=squared_error", "loss.hard_weight=1"]


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The rows to judge by, of files in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "cache"))
    every = [{"text": f"{i} " + "abc "[: 2 + i % 3] * (1 + i % 5), "score": i % 4 + 0.5} for i in range(48)]
    for name, part in (("rows", every[:36]), ("test", every[36:])):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in part))
    return every[36:]


def found(pattern: str) -> Path:
    (path,) = Path("multirun").glob(pattern)
    return path


def done(*words: str) -> None:
    assert main(list(words)) == 0


@pytest.mark.slow
def test_a_number_is_trained_exported_judged_and_predicted(
    lines: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    done("train", "name=reg", "dataset.max_length=24", *DATA, *ALONE, *(f"trainer.{option}" for option in TRAINER))
    model = found("reg/*/model")
    plain = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    with torch.no_grad():
        wanted = [plain(**tokenizer(line["text"], return_tensors="pt")).logits.item() for line in lines]
    rmse = float(np.sqrt(np.mean((np.array(wanted) - [line["score"] for line in lines]) ** 2)))

    model.rename("model")
    done("export", "name=out", "model.path=model", "variants=[onnx,onnx_int8]", *DATA)
    said = capsys.readouterr().out
    assert "agreement: R² of a variant's numbers for the original's" in said
    assert "RMSE" in said
    record = json.loads(found("out/*/export.json").read_text())
    assert [entry["status"] for entry in record["variants"]] == ["good"] * 3
    for entry, near in zip(record["variants"], (1e-5, 1e-5, 0.1), strict=True):
        assert entry["rmse"] == pytest.approx(rmse, rel=near)
        assert entry["agreement"] == pytest.approx(1, abs=near)
        assert (entry["accuracy"], entry["kl"]) == (None, None)

    onnx = str(found("out/*/onnx"))
    done("evaluate", "name=judged", f"model.path='{onnx}'", "dataset=local", *DATA)
    judged = json.loads(found("judged/*/evaluation.json").read_text())
    assert judged["classification"] is None
    assert judged["regression"]["rmse"] == pytest.approx(rmse, rel=1e-5)
    assert judged["regression"]["rows"] == len(lines)

    capsys.readouterr()
    done("predict", onnx, "--file", "test.jsonl", "--json")
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["value"] for answer in answers] == pytest.approx(wanted, abs=1e-4)
    done("predict", onnx, lines[0]["text"])
    assert capsys.readouterr().out.startswith(f"score {wanted[0]:.4g}")
