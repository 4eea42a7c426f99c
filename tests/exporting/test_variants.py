"""`open_variant` on plain folders, and what it says of folders that hold no model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from kdlab.batch import Batch
from kdlab.exporting.predicting import check_rows, predict
from kdlab.exporting.variants import log_softmax, open_variant
from kdlab.models.classifier import ClassifierSplit, load_classifier


def test_a_plain_folder_answers_as_transformers_does(classifier: Path) -> None:
    variant = open_variant(classifier, dtype="float32")
    model = AutoModelForSequenceClassification.from_pretrained(classifier).eval()
    ids = [[5, 6, 7, 8], [9, 10]]
    with torch.no_grad():
        want = torch.cat([model(input_ids=torch.tensor([row])).logits for row in ids])
    np.testing.assert_allclose(variant.logits(ids), want.numpy(), atol=1e-4)
    assert (variant.name, variant.kind) == ("torch", "classifier")
    assert variant.disk_bytes == (classifier / "model.safetensors").stat().st_size
    assert variant.memory_bytes is not None
    assert variant.memory_bytes >= 0


def test_classes_are_told_apart_as_finely_as_in_training(classifier: Path) -> None:
    """Weights of two bytes, logits of four."""
    variant = open_variant(classifier, dtype="bfloat16")
    ids = [list(range(start, start + 9)) for start in range(5, 60)]
    found_NC = torch.from_numpy(variant.logits(ids))
    assert (found_NC != found_NC.bfloat16().float()).any(), "no number between those that bfloat16 has"
    split = ClassifierSplit(load_classifier(str(classifier), task=variant.task, dtype="bfloat16", fresh_head=False))
    ids_BT = torch.tensor(ids)
    mask_BT, labels_B1 = torch.ones_like(ids_BT), torch.zeros(len(ids), 1, dtype=torch.long)
    batch = Batch(input_ids_BT=ids_BT, attention_mask_BT=mask_BT, labels_BT=labels_B1, decides=True)
    with torch.no_grad():
        torch.testing.assert_close(split.hidden(batch)[:, 0], found_NC, atol=1e-5, rtol=1e-5)


def test_classes_come_with_their_probabilities(classifier: Path) -> None:
    variant = open_variant(classifier)
    long = "my card is lost and " * 9
    short, cut = predict(variant, [{"text": "my card"}, {"text": long}])
    probabilities = list(short["probabilities"].values())
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    assert probabilities == sorted(probabilities, reverse=True)
    assert short["label"] == next(iter(short["probabilities"]))
    assert short["milliseconds"] > 0
    assert (short["cut"], cut["cut"]) == (0, len(variant.tokenizer(long)["input_ids"]) - 48)
    with pytest.raises(ValueError, match="text 1 has no 'text', but words; this model reads text"):
        check_rows(variant, [{"words": "x"}], name="PATH=here")


def test_a_run_folder_stands_for_its_model(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").symlink_to(classifier)
    assert open_variant(tmp_path).kind == "classifier"
    assert "taking its model/" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"onnx/variant.json": {}}, "holds variants; give one of them: .*onnx"),
        ({"run.json": {}}, "finish the run first"),
        ({"variant.json": {"variant": "onnx", "kind": "classifier"}}, "config.json"),
        ({"notes.txt": {}}, "no config.json in this folder"),
    ],
)
def test_a_folder_without_a_model_is_told_apart(tmp_path: Path, files: dict[str, object], error: str) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises((ValueError, FileNotFoundError), match=error):
        open_variant(tmp_path)


def test_no_such_folder() -> None:
    with pytest.raises(FileNotFoundError, match=r"^PATH=\./nowhere: no such file or folder"):
        open_variant("./nowhere", option="PATH")


def test_a_completion_stops_at_the_limit_and_counts_what_it_wrote(causal: Path) -> None:
    variant = open_variant(causal)
    found = variant.complete([10, 11, 12], max_new_tokens=5)
    assert 1 <= found.tokens <= 5
    assert found.log_probability < 0
    with pytest.raises(ValueError, match="a prompt of 0 tokens"):
        variant.complete([], max_new_tokens=5)


def test_log_softmax_is_that_of_torch() -> None:
    logits = np.array([[1e4, 0.0, -1e4], [0.1, 0.2, 0.3]], np.float32)
    np.testing.assert_allclose(log_softmax(logits), torch.tensor(logits).log_softmax(-1).numpy(), atol=1e-6)
