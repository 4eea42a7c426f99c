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


NAMES = ("low", "medium", "high")


def decided(confusion: list[list[int]], names: tuple[str, ...] = NAMES, **more: Any) -> dict[str, Any]:
    """What a classifier's metrics are where it took class t for d `confusion[t][d]` times."""
    size, rows = range(len(names)), sum(map(sum, confusion))
    support, given = [sum(row) for row in confusion], [sum(row[d] for row in confusion) for d in size]
    per_class = []
    for t in size:
        right = confusion[t][t]
        precision, recall = right / max(given[t], 1), right / max(support[t], 1)
        f1 = 2 * right / max(given[t] + support[t], 1)
        per_class.append({"name": names[t], "precision": precision, "recall": recall, "f1": f1, "support": support[t]})
    metrics: dict[str, Any] = {"rows": rows, "accuracy": sum(confusion[t][t] for t in size) / rows}
    for key in ("f1", "precision", "recall"):
        metrics[f"macro_{key}"] = sum(one[key] for one in per_class) / len(names)
        metrics[f"weighted_{key}"] = sum(one[key] * one["support"] for one in per_class) / rows
    bins = [{"confidence": 0.5, "accuracy": 0.4, "count": rows // 2}, {"confidence": 0.9, "accuracy": 0.8, "count": 3}]
    metrics |= {"ece": 0.1, "reliability": bins, "confusion": confusion, "per_class": per_class}
    return metrics | {"majority_accuracy": max(support) / rows, **more}


def classified(right: int, *, of: int = 100) -> list[list[int]]:
    """A confusion matrix of three classes, of which the last is the commonest, with `right` of `of` on the diagonal."""
    support = [of // 5, of // 5, of - 2 * (of // 5)]
    hit = [min(one, right * one // of) for one in support]
    hit[2] += right - sum(hit)
    return [
        [hit[0], support[0] - hit[0], 0],
        [0, hit[1], support[1] - hit[1]],
        [support[2] - hit[2], 0, hit[2]],
    ]


LATENCY = {"p50_ms": 12.5, "p95_ms": 20.25, "examples_per_second": 96.0}


def stages(before: int, after: int, teacher: int) -> dict[str, Any]:
    """Metrics of a classifier run, by how many of 100 texts were right; two more of 200 in the hold-out test."""
    kls = {"before": 0.9, "after": 0.2}
    found = {}
    for who, right in {"before": before, "after": after, "teacher": teacher}.items():
        more = {"nll": 1.0 - right / 200} | ({"kl": kls[who], "top1_agreement": 0.75} if who in kls else {})
        test = decided(classified(2 * right + 2, of=200), **more)
        found[who] = decided(classified(right), latency=LATENCY, tokens_per_second=900.0, test=test, **more)
    return found


CLASSES: dict[str, Any] = {
    "data": {
        "classes": {
            "kind": "classification", "column": "helpfulness", "names": [*NAMES], "bins": [2, 4],
            "counts": {
                "train": {"low": 180, "medium": 180, "high": 540}, "heldout": {"low": 20, "medium": 20, "high": 60},
                "test": {"low": 40, "medium": 40, "high": 120},
            },
            "majority": {"class": "high", "heldout": 0.6, "test": 0.6}, "spread": None, "weights": None,
        },
        "folds": {
            "fold": 3, "folds": 10, "by": "stratified_group", "group": "prompt", "heldout": "fold 3 of 10",
            "rows": {"train": 900, "heldout": 100, "test": 200}, "skipped": {"train": {"that are in the test": 7}},
            "notes": [],
            "leakage": {"near_is": "shingles", "pairs": {
                "train/heldout": {"rows": 100, "group": 0, "text": 0, "near": 4, "examples": {}, "forbidden": ["text"]},
            }},
        },
        "train": {"examples": 900, "tokens": 90_000}, "heldout": {"examples": 100, "tokens": 10_000},
    },
    "config": {"dataset": {"fold": 3, "folds": 10, "labels": {"column": "helpfulness"}}, "student": {"path": None}},
}  # fmt: skip


@pytest.fixture
def classifier() -> Callable[..., dict[str, Any]]:
    """`classifier(before, after, teacher, fold=3)`: changes that make a run one of a classifier with so many of 100
    held-out texts right."""

    def changes(before: int = 35, after: int = 80, teacher: int = 88, *, fold: int | None = 3) -> dict[str, Any]:
        found = copy.deepcopy(CLASSES) | {"metrics": stages(before, after, teacher)}
        found["data"]["folds"]["fold"] = found["config"]["dataset"]["fold"] = fold
        return found

    return changes


@pytest.fixture
def write_record(tmp_path: Path) -> Callable[..., Path]:
    """`write_record("export", "folder", variants=[...])` writes export.json there."""

    def write(verb: str, folder: str, **content: Any) -> Path:
        made = tmp_path / folder
        made.mkdir(parents=True, exist_ok=True)
        record = {"schema": 1, "verb": verb, "status": "finished", "name": verb, "overrides": [], "config": {}}
        (made / f"{verb}.json").write_text(json.dumps(record | content), encoding="utf-8")
        return made

    return write
