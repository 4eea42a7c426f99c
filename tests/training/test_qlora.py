"""Adapters over packed weights: a whole run, what its checkpoints hold, and that it continues bit for bit."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from kdlab.models.loading import load_language_model
from kdlab.models.quantization import QuantizationConfig
from kdlab.models.size import measure
from kdlab.models.student import LoraConfig, StudentConfig, build_student
from kdlab.models.tiny import save_tiny
from kdlab.training.metrics_file import CLOCK
from kdlab.training.recipe import BenchmarkConfig


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in CLOCK} for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("kind", "package"), [("nf4", "bitsandbytes"), ("bnb8", "bitsandbytes"), ("torchao_int8", "torchao")]
)
@pytest.mark.slow
def test_a_killed_run_over_packed_weights_continues_bit_for_bit(kind, package, job, start, kill_after, tmp_path):
    pytest.importorskip(package)
    base = save_tiny("llama", tmp_path / "base", seed=5)
    student = StudentConfig(path=str(base), quantization=kind, lora=LoraConfig(r=4, dropout=0.3))
    options = {"student": student, "max_steps": 5, "gradient_checkpointing": kind == "nf4"}
    options |= {"benchmark": BenchmarkConfig(samples=0, speed=False)}
    whole = start(job(**options), tmp_path / "whole")
    with kill_after(5):
        start(job(**options), tmp_path / "killed")
    record = start(job(**options), tmp_path / "killed")
    assert record["resumed"] == 1
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    assert record["metrics"] == whole["metrics"]
    assert whole["metrics"]["after"]["kl"] < whole["metrics"]["before"]["kl"]

    checkpoint = torch.load(tmp_path / "whole" / "checkpoints" / "last.ckpt", weights_only=True)
    weights = {name for name, value in checkpoint["state_dict"].items() if value.numel() > 64}
    assert weights
    assert all("lora_" in name for name in weights)

    packed = measure(build_student(student, None, None, seed=0).model)
    assert whole["models"]["student"] | packed.as_dict() == whole["models"]["student"]
    models = [AutoModelForCausalLM.from_pretrained(tmp_path / run / "model") for run in ("whole", "killed")]
    assert models[0].dtype == torch.float32
    for (name, a), b in zip(models[0].state_dict().items(), models[1].state_dict().values(), strict=True):
        assert torch.equal(a, b), name

    adapter = json.loads((tmp_path / "whole" / "adapter" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str(base)
    from peft import PeftModel

    dense = load_language_model(str(base), dtype="float32")
    same = PeftModel.from_pretrained(dense, tmp_path / "whole" / "adapter").merge_and_unload()
    for (name, a), (_, b) in zip(models[0].named_parameters(), same.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6, msg=name)
    again = load_language_model(str(base), dtype="float32", quantization=QuantizationConfig(kind=kind))
    assert measure(again).bytes < measure(dense).bytes * 0.55
