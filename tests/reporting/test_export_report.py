"""Exports in a report: a row a variant, and means over folds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdlab.reporting.exports import export_cells, joined_cells, note
from kdlab.reporting.records import read_all
from kdlab.reporting.report import print_table, write_page

NBSP = "\N{NO-BREAK SPACE}"


def variant(name: str, status: str = "good", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "folder": name, "status": status, "reason": None, "examples": 512}
    return found | {"accuracy": None, "macro_f1": None, "agreement": None, "kl": None, "latency": {}} | more


TORCH = variant("torch", disk_bytes=400_000_000, accuracy=0.8, macro_f1=0.75, agreement=1.0, latency={"p50_ms": 20.0})
INT8 = variant(
    "onnx_int8", disk_bytes=100_000_000, accuracy=0.79, macro_f1=0.74, agreement=0.98, latency={"p50_ms": 8.0}
)
BAD = variant("onnx_w4", "refused", reason="agreement 90.0 % is below 97.0 %", disk_bytes=60_000_000, agreement=0.9)
NONE = variant("gguf", "failed", reason="the converter is not installed", examples=0)


@pytest.fixture
def export(write_record):
    def write(folder: str = "export", **more: Any) -> Path:
        threshold = {"agreement": 0.97, "kl": 0.05}
        return write_record("export", folder, **{"variants": [TORCH, INT8, BAD, NONE], "threshold": threshold} | more)

    return write


def test_a_row_a_variant_with_its_reason(export) -> None:
    (found,) = read_all([export()]).exports
    head, rows = export_cells(found)
    table = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert list(table) == ["torch", "onnx_int8", "onnx_w4", "gguf"]
    assert table["onnx_int8"]["is it good?"] == "good"
    assert table["onnx_int8"]["on disk"] == f"100{NBSP}MB"
    assert table["onnx_int8"]["of the original's size"] == f"25.0{NBSP}%"
    assert table["onnx_int8"]["agreement"] == f"98.0{NBSP}%"
    assert table["onnx_int8"]["p50"] == f"8{NBSP}ms"
    assert table["onnx_w4"]["is it good?"] == "refused: agreement 90.0 % is below 97.0 %"
    assert table["gguf"]["is it good?"] == "failed: the converter is not installed"
    assert table["gguf"]["on disk"] == "–"
    assert "KL (nats)" not in head, "no variant has one"
    assert f"A variant is good with an agreement of at least 97.0{NBSP}%." in note([found])


def test_a_model_that_writes_is_good_by_its_kl(export) -> None:
    variants = [one | {"accuracy": None, "agreement": 0.9, "kl": 0.001} for one in (TORCH, INT8)]
    rows = "8,192 tokens in 70 of 90 held-out examples"
    (found,) = read_all([export(variants=[*variants, NONE], rows=rows)]).exports
    assert note([found]) == f"Each was run on {rows}. A variant is good with a KL of at most 0.05000."


def test_sizes_are_shares_of_the_original_wherever_it_stands(export) -> None:
    (found,) = read_all([export(variants=[BAD, TORCH, INT8])]).exports
    head, rows = export_cells(found)
    shares = {row[0]: row[head.index("of the original's size")] for row in rows}
    assert shares["onnx_int8"] == f"25.0{NBSP}%"
    (alone,) = read_all([export("other", variants=[BAD, INT8])]).exports
    head, rows = export_cells(alone)
    assert {row[head.index("of the original's size")] for row in rows} == {"–"}


def test_printed_and_on_the_page(export, capsys, tmp_path: Path) -> None:
    folder = export()
    print_table([folder])
    out = capsys.readouterr().out
    for told in ("variants", "onnx_int8", "refused: agreement 90.0 % is below 97.0 %"):
        assert told in out
    page = write_page([folder], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<title>kdlab: 1 export</title>" in page
    assert "the converter is not installed" in page


def test_exports_that_differ_in_their_fold_are_one_row_a_variant(export, tmp_path: Path, capsys) -> None:
    for fold, accuracy in enumerate((0.7, 0.8)):
        variants = [TORCH, INT8 | {"accuracy": accuracy}] + ([NONE] if fold else [])
        export(f"s/{fold}", overrides=[f"dataset.fold={fold}"], variants=variants)
    head, rows = joined_cells(read_all([tmp_path / "s"]).exports)
    table = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert head[:2] == ["variant", "good"]
    assert table["onnx_int8"]["accuracy"] == f"75.0{NBSP}%"
    assert table["onnx_int8"]["good"] == "2 of 2"
    assert table["gguf"]["good"] == "0 of 1"
    print_table([tmp_path / "s"])
    assert "means over 2 exports" in capsys.readouterr().out


def test_other_settings_are_other_rows(export, tmp_path: Path) -> None:
    for processor in ("avx2", "arm64"):
        export(f"s/{processor}", overrides=[f"processor={processor}"], variants=[TORCH])
    head, rows = joined_cells(read_all([tmp_path / "s"]).exports)
    assert head[0] == "export"
    assert sorted(row[0] for row in rows) == ["export processor=arm64", "export processor=avx2"]


def test_nothing_but_the_head_is_there(export) -> None:
    (found,) = read_all([export(variants=None, threshold=None)]).exports
    assert export_cells(found)[1] == []
    assert joined_cells([found])[1] == []
    assert note([found]) == ""
