"""Exports of tiny models: parity with PyTorch, sizes, refusals, and going on after a kill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from kdlab.durable import read_json
from kdlab.exporting.job import export
from kdlab.exporting.predicting import predict
from kdlab.exporting.recipe import ExportConfig
from kdlab.exporting.variants import open_variant
from kdlab.models.tiny import byte_tokenizer
from kdlab.training.stopping import RunFailed


def run(config: ExportConfig, folder: Path) -> dict[str, Any]:
    return export(config, output_dir=folder, resolved=asdict(config), overrides=["name=here"])


def some_ids(lengths: Sequence[int]) -> list[list[int]]:
    return [torch.randint(3, 200, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in lengths]


@pytest.fixture(scope="session")
def exported(config: ExportConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classifier as onnx and onnx_int8."""
    folder = tmp_path_factory.mktemp("exported")
    run(replace(config, variants=["onnx", "onnx_int8"]), folder)
    return folder


@pytest.fixture(scope="session")
def exported_text(text_config: ExportConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that writes as onnx and onnx_w8."""
    folder = tmp_path_factory.mktemp("exported_text")
    run(replace(text_config, variants=["onnx", "onnx_w8"]), folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [[1], [2], [33], [5, 5, 5], [1, 9, 4], [40, 3, 17, 8, 26, 2, 11]])
def test_a_graph_takes_any_batch_and_length(exported: Path, classifier: Path, lengths: list[int]) -> None:
    ids = some_ids(lengths)
    model = AutoModelForSequenceClassification.from_pretrained(classifier).eval()
    with torch.no_grad():
        alone = torch.cat([model(input_ids=torch.tensor([row])).logits for row in ids])
    np.testing.assert_allclose(open_variant(exported / "onnx").logits(ids), alone.numpy(), atol=2e-4)


@pytest.mark.slow
def test_a_graph_knows_no_folder_of_this_machine(exported: Path, exported_text: Path) -> None:
    here = str(Path(torch.__file__).parent).encode()
    for graph in [*exported.rglob("*.onnx"), *exported_text.rglob("*.onnx")]:
        assert here not in graph.read_bytes(), graph


@pytest.mark.slow
def test_the_record_says_what_each_variant_is_worth(exported: Path, classifier: Path) -> None:
    found = read_json(exported / "export.json")
    assert found is not None
    assert (found["schema"], found["verb"], found["status"], found["error"]) == (1, "export", "finished", None)
    first, onnx, int8 = found["variants"]
    assert [entry["name"] for entry in (first, onnx, int8)] == ["torch", "onnx", "onnx_int8"]
    assert first["disk_bytes"] == sum(file.stat().st_size for file in classifier.glob("*.safetensors"))
    assert onnx["disk_bytes"] == (exported / "onnx" / "model.onnx").stat().st_size
    assert int8["disk_bytes"] < 0.75 * onnx["disk_bytes"]  # of so small a model the graph itself is a good part
    assert (onnx["agreement"], onnx["accuracy"]) == (1.0, first["accuracy"])
    assert 0 <= onnx["kl"] < 1e-6 < int8["kl"] < 0.1
    for entry in (first, onnx, int8):
        assert entry["status"] == "good"
        assert entry["examples"] == 40
        assert 0 < entry["latency"]["p50_ms"] <= entry["latency"]["p95_ms"]
        assert entry["examples_per_second"] > 0
    assert not (exported / ".work").exists()


@pytest.mark.slow
def test_accuracy_is_that_of_the_heldout_rows(exported: Path, config: ExportConfig) -> None:
    from kdlab.data.labelled.rows import read_labelled

    rows = read_labelled(config.dataset).heldout
    answers = list(predict(open_variant(exported / "onnx"), rows.fields))
    names = read_json(exported / "onnx" / "kdlab_task.json")["names"]  # type: ignore[index]
    right = np.mean([answer["label"] == names[label] for answer, label in zip(answers, rows.labels, strict=True)])
    found = read_json(exported / "export.json")
    assert found is not None
    assert found["variants"][1]["accuracy"] == pytest.approx(right)


@pytest.mark.slow
def test_the_same_command_redoes_nothing(exported: Path, config: ExportConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("made again")

    before = read_json(exported / "export.json")
    monkeypatch.setattr("kdlab.exporting.job.verify", never)
    monkeypatch.setattr("kdlab.exporting.job.replace_folder", never)
    after = run(replace(config, variants=["onnx", "onnx_int8"]), exported)
    assert before is not None
    assert (after["variants"], after["resumed"]) == (before["variants"], before["resumed"] + 1)


@pytest.mark.slow
def test_a_killed_export_goes_on(config: ExportConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kdlab.exporting import forms

    asked = replace(config, variants=["onnx", "onnx_w8"])

    def killed(graph: Path, file: Path, *, bits: int) -> None:
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(forms, "pack_weights", killed)
        with pytest.raises(KeyboardInterrupt):
            run(asked, tmp_path)
    assert (tmp_path / "onnx" / "variant.json").is_file()
    assert not (tmp_path / "onnx_w8").exists(), "half a variant"
    made = (tmp_path / "onnx" / "model.onnx").stat().st_mtime_ns

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the graph was there")

    monkeypatch.setattr("kdlab.exporting.original.write_graph", never)
    content = run(asked, tmp_path)
    assert [entry["status"] for entry in content["variants"]] == ["good"] * 3
    assert (tmp_path / "onnx" / "model.onnx").stat().st_mtime_ns == made
    assert content["resumed"] == 1


@pytest.mark.slow
def test_a_variant_below_the_threshold_is_refused_and_the_others_kept(exported: Path, config: ExportConfig) -> None:
    with pytest.raises(RunFailed, match="onnx_int8 refused"):
        run(replace(config, variants=["onnx", "onnx_int8"], agreement=1.0, seed=config.seed), _spoilt(exported))
    found = read_json(exported / "export.json")
    assert found is not None
    assert [(entry["name"], entry["status"]) for entry in found["variants"]][1:] == [
        ("onnx", "good"),
        ("onnx_int8", "refused"),
    ]
    run(replace(config, variants=["onnx", "onnx_int8"], agreement=0.5), exported)


@pytest.mark.slow
def test_what_cannot_be_made_is_said_in_one_line(config: ExportConfig, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"1 of 1 variants are not good: gguf failed .*is a classifier"):
        run(replace(config, variants=["gguf"]), tmp_path)
    found = read_json(tmp_path / "export.json")
    assert found is not None
    assert found["status"] == "failed"
    assert [entry["status"] for entry in found["variants"]] == ["failed"]
    assert not (tmp_path / "gguf").exists()


def _spoilt(folder: Path) -> Path:
    """The folder, with an int8 variant that is recorded to disagree in one row: what a run reads again."""
    import json

    file = folder / "export.json"
    found = json.loads(file.read_text())
    for entry in found["variants"]:
        if entry["name"] == "onnx_int8":
            entry["agreement"] = 0.975
    file.write_text(json.dumps(found))
    return folder


@pytest.mark.slow
def test_a_model_that_writes_keeps_its_distribution(exported_text: Path, causal: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(causal).eval()
    ids = some_ids([3, 30, 11])
    for name, close in (("onnx", 2e-4), ("onnx_w8", 0.5)):
        variant = open_variant(exported_text / name)
        assert variant.kind == "causal"
        for row, scores_TV in zip(ids, variant.scores(ids), strict=True):
            with torch.no_grad():
                want = model(input_ids=torch.tensor([row])).logits[0].log_softmax(-1)
            np.testing.assert_allclose(scores_TV, want.numpy(), atol=close)
    found = read_json(exported_text / "export.json")
    assert found is not None
    assert found["variants"][1]["kl"] < 1e-6
    assert found["variants"][2]["kl"] < 0.01


@pytest.mark.slow
def test_variants_complete_as_transformers_does(exported_text: Path, causal: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(causal).eval()
    prompt = torch.tensor([byte_tokenizer()("line 7 of")["input_ids"]])
    out = model.generate(
        prompt, max_new_tokens=12, do_sample=False, output_logits=True, return_dict_in_generate=True, pad_token_id=0
    )
    new = out.sequences[0, prompt.shape[1] :].tolist()
    total = sum(float(step[0].log_softmax(-1)[token]) for step, token in zip(out.logits, new, strict=True))
    for folder in (causal, exported_text / "onnx"):
        found = open_variant(folder).complete(prompt[0].tolist(), max_new_tokens=12)
        assert found.tokens == len(new)
        assert found.log_probability == pytest.approx(total, abs=1e-3)
        assert found.text == byte_tokenizer().decode(new, skip_special_tokens=True)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["torchao_int8", "nf4"])
def test_packed_for_torch_reloads_as_it_was(config: ExportConfig, tmp_path: Path, variant: str) -> None:
    content = run(replace(config, variants=[variant], agreement=0.5), tmp_path)
    torch_entry, entry = content["variants"]
    assert entry["disk_bytes"] < torch_entry["disk_bytes"]
    first, again = (open_variant(tmp_path / variant).logits(some_ids([9, 4])) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.slow
def test_an_adapter_is_exported_with_its_model(config: ExportConfig, classifier: Path, tmp_path: Path) -> None:
    import peft

    model = AutoModelForSequenceClassification.from_pretrained(classifier)
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules="all-linear", modules_to_save=["score"])
    )
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    from kdlab.models.writing import save_adapter
    from kdlab.text.task import read_task

    save_adapter(adapted, tmp_path / "adapter", byte_tokenizer(), read_task(classifier))
    run(replace(config, model=replace(config.model, path=str(tmp_path / "adapter"))), tmp_path / "out")
    ids = some_ids([12, 5])
    adapted.eval()
    with torch.no_grad():
        want = torch.cat([adapted(input_ids=torch.tensor([row])).logits for row in ids])
    np.testing.assert_allclose(open_variant(tmp_path / "out" / "onnx").logits(ids), want.numpy(), atol=5e-4)
    plain = AutoModelForSequenceClassification.from_pretrained(classifier)
    with torch.no_grad():
        assert not np.allclose(plain(input_ids=torch.tensor([ids[0]])).logits.numpy(), want[:1].numpy(), atol=1e-2)


@pytest.mark.slow
def test_a_dataset_of_other_classes_is_refused(config: ExportConfig, tmp_path: Path, rows: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text(rows.read_text().replace(",fee", ",cost"))
    with pytest.raises(ValueError, match=r"the model's of \[card, fee, rate\]"):
        run(
            replace(config, dataset=replace(config.dataset, path=str(other)), variants=["torchao_int8"]),
            tmp_path / "out",
        )
    assert not list((tmp_path / "out").glob("*/variant.json"))
