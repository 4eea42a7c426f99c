"""What each exported variant of a real student costs and keeps, and what each part of the int8 recipe is worth.

    python benchmarks/export.py --classifier MODEL --rows TRAIN.csv --test TEST.csv --column category
    python benchmarks/export.py --causal MODEL --text python_docs
    python benchmarks/export.py --tiny             # does it run? tiny random models

MODEL is `model/` of a run of `kdlab train`. Every variant is opened as a user opens it and reads the same rows as
PyTorch (eager, float32), in turn, on one thread: `x torch` is the median of the ratios of single rows, `x in batches`
of batches of 8. The second table of a classifier takes the int8 recipe apart.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

CLASSIFIER = ["onnx", "onnx_int8", "onnx_int8_static", "onnx_w8", "onnx_w4", "torchao_int8", "torchao_int4", "nf4"]
CAUSAL = ["onnx", "onnx_int8", "onnx_w8", "onnx_w4", "torchao_int8", "nf4"]


def exported(config: Any, folder: Path) -> dict[str, Any]:
    """The record of an export, refused variants too."""
    from kdlab.durable import read_json
    from kdlab.exporting.job import export
    from kdlab.training.stopping import RunFailed

    try:
        return export(config, output_dir=folder, resolved=asdict(config), overrides=[])
    except RunFailed as error:
        print(error, file=sys.stderr)
        found = read_json(folder / "export.json")
        assert isinstance(found, dict)
        return found


def show(content: dict[str, Any]) -> None:
    torch = content["variants"][0]
    print(f"\n{content['source']}: {content['rows']}, {content['threads']} thread, {content['processor']}\n")
    print("| variant | MB | x size | accuracy | agreement | KL | p50 ms | x torch | x in batches | verdict |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for entry in content["variants"]:
        if entry["agreement"] is None:
            print(f"| {entry['name']} | - | - | - | - | - | - | - | - | {entry['reason']} |")
            continue
        accuracy = "-" if entry["accuracy"] is None else f"{entry['accuracy']:.1%}"
        print(
            f"| {entry['name']} | {entry['disk_bytes'] / 1e6:.1f} | {entry['disk_bytes'] / torch['disk_bytes']:.2f} | "
            f"{accuracy} | {entry['agreement']:.2%} | {entry['kl']:.2g} | "
            f"{entry['latency']['p50_ms']:.1f} | {entry['faster_than_torch']:.2f} | {entry['faster_in_batches']:.2f} | "
            f"{entry['status']} |"
        )


def take_apart(config: Any, folder: Path) -> None:
    """The int8 recipe with and without each of its parts, on the rows of the first table."""
    import shutil

    from onnxruntime.quantization import QuantType, quantize_dynamic

    from kdlab.exporting.examples import read_examples
    from kdlab.exporting.graph import GRAPH
    from kdlab.exporting.onnx_forms import pack_blocks, quiet_quantiser
    from kdlab.exporting.outliers import Graph, largest, narrowing, pack_tables, per_token, spread
    from kdlab.exporting.variants import open_variant
    from kdlab.exporting.verify import verify

    original = open_variant(config.model.path, dtype="float32")
    examples = read_examples(config, original)
    parts = {
        "none (quantize_dynamic, per channel)": "",
        "tables": "t",
        "tables, spread": "ts",
        "tables, per token": "tp",
    }
    parts |= {
        "tables, spread, per token": "tsp",
        "tables, spread, per token, head in float32": "tsph",
        "all: the same, blocks where it narrows": "tsphb",
    }
    print("\n| parts of the recipe | MB | agreement | KL | x torch | x in batches |\n|---|---|---|---|---|---|")
    for name, chosen in parts.items():
        beside = folder / "apart"
        shutil.copytree(folder / "onnx", beside, dirs_exist_ok=True)
        graph = Graph(folder / "onnx" / GRAPH)
        kept = graph.names()[-1:] if "h" in chosen else []
        blocks = narrowing(graph, but=kept) if "b" in chosen else []
        rest = [*kept, *blocks]
        if "s" in chosen:
            tops = largest(graph, examples.calibration, scratch=beside / "seen.onnx", large=False)
            spread(graph, tops, but=rest)
        if "p" in chosen:
            per_token(graph, but=rest)
        if "t" in chosen:
            pack_tables(graph)
        if blocks:
            with quiet_quantiser():
                pack_blocks(graph, bits=8, only=blocks)
        graph.save(beside / "prepared.onnx", large=False)
        with quiet_quantiser():
            quantize_dynamic(
                beside / "prepared.onnx",
                beside / GRAPH,
                per_channel=True,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=["MatMul"] if "t" in chosen else None,
                nodes_to_exclude=kept,
            )
        variant = open_variant(beside)
        _, found = verify(original, variant, examples, batch_size=config.batch_size, latency_examples=64)
        assert variant.disk_bytes is not None
        print(
            f"| {name} | {variant.disk_bytes / 1e6:.1f} | {found['agreement']:.2%} | {found['kl']:.4f} | "
            f"{found['faster_than_torch']:.2f} | {found['faster_in_batches']:.2f} |",
            flush=True,
        )
        shutil.rmtree(beside)


def tiny(folder: Path) -> argparse.Namespace:
    """Random models and made-up rows."""
    from kdlab.models.classifier import load_classifier
    from kdlab.models.tiny import byte_tokenizer, save_tiny
    from kdlab.models.writing import save_student
    from kdlab.text.task import Task

    names = ("a", "b", "c")
    for part, count in (("train", 60), ("test", 30)):
        with (folder / f"{part}.csv").open("w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows(
                [("text", "label"), *((f"{part} {i} {'x' * i}", names[i % 3]) for i in range(count))]
            )
    task = Task(kind="classification", names=names, column="label", template="{text}", max_length=64)
    save_student(
        load_classifier("tiny:llama", task=task, fresh_head=True), byte_tokenizer(), folder / "classifier", task
    )
    save_tiny("llama", folder / "causal")
    return argparse.Namespace(
        classifier=str(folder / "classifier"),
        causal=str(folder / "causal"),
        rows=str(folder / "train.csv"),
        test=str(folder / "test.csv"),
        column="label",
        text="python_docs",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classifier", help="a classifier's folder")
    parser.add_argument("--rows", help="its training rows")
    parser.add_argument("--test", help="rows to verify on")
    parser.add_argument("--column", default="label", help="of the rows: what is decided")
    parser.add_argument("--causal", help="the folder of a model that writes")
    parser.add_argument("--text", default="python_docs", help="a dataset whose held-out text it is verified on")
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--tiny", action="store_true", help="tiny random models: shows that it runs, and no more")
    asked = parser.parse_args()

    from kdlab.data.dataset import DatasetConfig
    from kdlab.data.labels import LabelsConfig
    from kdlab.exporting.recipe import ExportConfig, ModelConfig

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        told = tiny(folder) if asked.tiny else asked
        common: dict[str, Any] = {"threads": 1, "examples": asked.examples, "tokens": asked.tokens}
        if told.classifier is not None:
            labels = LabelsConfig(column=told.column, template="{text}")
            dataset = DatasetConfig(path=told.rows, test_path=told.test, labels=labels, fold_by="stratified")
            config = ExportConfig(
                model=ModelConfig(path=told.classifier), dataset=dataset, variants=CLASSIFIER, **common
            )
            show(exported(config, folder / "out"))
            take_apart(replace(config, examples=asked.examples), folder / "out")
        if told.causal is not None:
            config = ExportConfig(
                model=ModelConfig(path=told.causal),
                dataset=DatasetConfig(path=told.text, max_length=256),
                variants=CAUSAL,
                latency_examples=16,
                **common,
            )
            show(exported(config, folder / "written"))


if __name__ == "__main__":
    main()
