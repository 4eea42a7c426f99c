"""The int8 recipe on weights and activations as real models have them: outliers that a random model lacks."""

from __future__ import annotations

import csv
import pydoc_data.topics
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from kdlab.data.dataset import DatasetConfig
from kdlab.data.labels import LabelsConfig
from kdlab.exporting.job import export
from kdlab.exporting.onnx_forms import quiet_quantiser
from kdlab.exporting.recipe import ExportConfig, ModelConfig
from kdlab.exporting.variants import log_softmax, open_variant
from kdlab.models.classifier import load_classifier
from kdlab.models.loading import load_tokenizer
from kdlab.models.writing import save_student
from kdlab.text.task import Task

ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
LAYERS = 2
CLASSES = tuple("abcdefghijklmnopqrst")


@pytest.fixture
def config(tmp_path: Path) -> ExportConfig:
    """The first layers of SmolLM2 with a head drawn by chance, and sentences of Python's manual."""
    task = Task(kind="classification", names=CLASSES, column="label", template="{text}", max_length=48)
    model = load_classifier(ID, task=task, fresh_head=True, dtype="float32")
    model.model.layers = model.model.layers[:LAYERS]
    model.config.num_hidden_layers = LAYERS
    save_student(model, load_tokenizer(ID), tmp_path / "model", task)
    texts = [text.strip() for topic in pydoc_data.topics.topics.values() for text in topic.split("\n\n")]
    chosen = [text for text in dict.fromkeys(texts) if len(text) > 80][:300]
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as out:
        lines = [[text, CLASSES[number % len(CLASSES)]] for number, text in enumerate(chosen)]
        csv.writer(out).writerows([["text", "label"], *lines])
    dataset = DatasetConfig(
        path=str(tmp_path / "rows.csv"),
        labels=LabelsConfig(column="label", template="{text}"),
        heldout=200,
        fold_by="stratified",
    )
    model_config = ModelConfig(path=str(tmp_path / "model"))
    return ExportConfig(model=model_config, dataset=dataset, examples=200, latency_examples=2, agreement=0.9)


@pytest.mark.slow
def test_eight_bits_decide_as_the_model_does(config: ExportConfig, tmp_path: Path) -> None:
    """In a third of the file at most; onnxruntime's own recipe is several times as far off. A head drawn by chance
    decides by small margins, so fewer decisions stand than of a model that was trained."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    out = tmp_path / "out"
    made = export(config, output_dir=out, resolved=asdict(config), overrides=[])
    torch, _, int8 = made["variants"]
    assert int8["examples"] == 200
    assert int8["agreement"] >= 0.95
    assert 3 * int8["disk_bytes"] < torch["disk_bytes"]

    shutil.copytree(out / "onnx", tmp_path / "plain")
    with quiet_quantiser():
        quantize_dynamic(out / "onnx" / "model.onnx", tmp_path / "plain" / "model.onnx", weight_type=QuantType.QInt8)
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)][:100]
    original, plain, ours = (open_variant(folder) for folder in (out / "onnx", tmp_path / "plain", out / "onnx_int8"))
    ids = [list(original.tokenizer(text)["input_ids"][:48]) for text in texts]
    p, others = log_softmax(original.logits(ids)), [log_softmax(one.logits(ids)) for one in (plain, ours)]
    theirs, our = ((abs(other - p)).mean() for other in others)
    assert our < theirs / 3
