"""Runs to report on: complete `run.json` and `metrics.csv` files, made up."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

COLUMNS = (
    "step,epoch,phase,loss,divergence,hard,learning_rate,gradient_norm,rows,tokens,nll,perplexity,kl,top1_agreement,"
    "seconds,tokens_per_second"
)


def stage(nll: float, **more: Any) -> dict[str, Any]:
    return {"rows": 2048, "nll": nll, "perplexity": math.exp(nll), "tokens_per_second": 100.0, **more}


RECORD: dict[str, Any] = {
    "schema": 1,
    "status": "finished",
    "verb": "train",
    "name": "quick",
    "overrides": ["experiment=quick"],
    "config": {"name": "quick", "loss": {"name": "forward_kl", "temperature": 2.0}, "student": {"path": None}},
    "git": {"sha": "3f786850e387550fdab836ed7e6dc881de23001b", "dirty": True},
    "versions": {"kdlab": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "torchao": None},
    "hardware": {"processor": "A processor", "cores": 2, "memory_bytes": 24_000_000_000, "device": "cpu",
                 "device_name": "A processor", "threads": 2},
    "seeds": {"seed": 0},
    "started": "2026-11-22T03:40:11+00:00",
    "finished": "2026-11-22T03:44:02+00:00",
    "resumed": 1,
    "steps": 4,
    "epochs": 0.5,
    "seconds": {"load": 6.2, "train": 181.4, "evaluate": 32.8, "total": 231.0},
    "tokens": {"train": 4096, "supervised": 4000, "heldout": 2100},
    "tokens_per_second": 395.2,
    "peak_memory_bytes": {"host": 2_410_000_000, "device": None},
    "data": {"reading": {"format": "text", "columns": ["topic", "text"], "rows": 1612, "skipped": {}}, "duplicates": 1},
    "models": {
        "teacher": {"source": "big model", "parameters": 134_515_008, "bytes": 538_060_032, "dtype": "float32",
                    "disk_bytes": 269_060_552},
        "student": {"source": "6 of its layers", "parameters": 49_552_128, "bytes": 198_208_512, "dtype": "float32",
                    "disk_bytes": 198_300_000, "trainable_parameters": 49_552_128, "tokenizer": "teacher's"},
    },
    "compression_ratio": 2.7146,
    "metrics": {
        "teacher": {"nll": 2.5, "perplexity": math.exp(2.5), "tokens_per_second": 600.0},
        "before": stage(12.5, kl=10.0, top1_agreement=0.0),
        "after": stage(4.5, kl=2.0, top1_agreement=0.26),
    },
    "loss": {"name": "forward_kl"},
    "samples": [{"prompt": "Once", "teacher": "upon a time", "before": "rhrh", "after": "a time"}],
    "files": {"metrics": "metrics.csv", "model": "model/", "page": "report.html", "samples": "samples.md"},
    "error": None,
}  # fmt: skip

METRICS = [
    COLUMNS,
    "1,0.1,train,9.5,9.5,,0.001,1.5,500,512,,,,,2.5,200.0",
    "2,0.2,train,7.25,7.25,,0.001,1.5,500,512,,,,,2.5,200.0",
    "2,0.2,heldout,,,,,,2048,2100,6.5,665.1416330443618,4.0,0.125,1.5,1400.0",
    "3,0.3,train,6.0,6.0,,0.001,1.5,500,512,,,,,2.5,200.0",
    "4,0.4,train,5.5,5.5,,0.001,1.5,500,512,,,,,2.5,200.0",
]

Write = Callable[..., Path]


@pytest.fixture
def write_run(tmp_path: Path) -> Write:
    """`write_run("folder", {"metrics.after.kl": 3.0, "status": "failed"})` writes a run, changed there."""

    def write(folder: str = "run", changes: dict[str, Any] | None = None, *, metrics: list[str] | None = None) -> Path:
        record = copy.deepcopy(RECORD)
        for path, value in (changes or {}).items():
            *parents, last = path.split(".")
            place = record
            for key in parents:
                place = place[key]
            place[last] = value
        made = tmp_path / folder
        made.mkdir(parents=True)
        (made / "run.json").write_text(json.dumps(record), encoding="utf-8")
        (made / "metrics.csv").write_text("\n".join(METRICS if metrics is None else metrics) + "\n", encoding="utf-8")
        return made

    return write


GENERATION = {
    "metrics.teacher.generation": {"examples": 200, "rouge1": 41.0, "rouge2": 20.0, "rougeL": 35.04, "words": 20.5},
    "metrics.before.generation": {"examples": 200, "rouge1": 3.0, "rouge2": 0.0, "rougeL": 2.5, "words": 60.0},
    "metrics.after.generation": {"examples": 200, "rouge1": 30.0, "rouge2": 12.0, "rougeL": 24.25, "words": 21.0},
}
CROSS = {
    "metrics.teacher": {"nll": 2.0, "perplexity": math.exp(2.0), "bits_per_byte": 0.9, "tokens_per_second": 600.0},
    "metrics.before": stage(9.0, bits_per_byte=3.2, divergence=5.5, aligned=0.93),
    "metrics.after": stage(5.0, bits_per_byte=1.6, divergence=2.25, aligned=0.93),
}


@pytest.fixture
def generation() -> dict[str, Any]:
    """Changes that make a run one with written answers."""
    return copy.deepcopy(GENERATION)


@pytest.fixture
def cross() -> dict[str, Any]:
    """Changes that make a run one of two tokenizers."""
    return copy.deepcopy(CROSS)
