"""The layers of kdlab: a lower one never imports a higher one, and each has its own third-party packages."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kdlab

PACKAGE = Path(kdlab.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

LAYERS = {
    "": 0,
    "rows": 0,
    "batch": 0,
    "proportions": 0,
    "limits": 0,
    "durable": 0,
    "losses": 1,
    "text": 1,
    "metrics": 1,
    "data": 2,
    "models": 2,
    "teachers": 2,
    "training": 3,
    "exporting": 3,
    "preflight": 3,
    "caching": 3,
    "answering": 3,
    "benchmarking": 3,
    "classifying": 3,
    "publishing": 3,
    "pipelines": 3,
    "config": 4,
    "commands": 4,
    "cli": 4,
    "__main__": 4,
}
THIRD_PARTY = {
    0: {"torch", "scipy"},
    1: {"numpy", "jinja2", "rouge_score", "sacrebleu", "sklearn"},
    2: {"transformers", "tokenizers", "datasets", "peft", "huggingface_hub", "pyarrow", "safetensors", "filelock"}
    | {"bitsandbytes", "torchao", "gguf", "rich", "fsspec", "httpx", "tenacity"},
    3: {"lightning", "onnx", "onnxscript", "onnxruntime", "lm_eval", "wandb", "tensorboard"},
    4: {"hydra", "omegaconf", "yaml"},
}
"""What a layer may use besides what the layers below it may."""
ONLY_THERE = {"hydra", "omegaconf", "yaml"}
REPORTING = {"rich", "matplotlib", "scipy"}
INSIDE_FUNCTIONS = {"bitsandbytes", "torchao", "gguf", "wandb", "tensorboard", "matplotlib"}
"""Optional or slow packages, imported by the function that needs them."""
INSIDE_FUNCTIONS |= {
    "onnx",
    "onnxscript",
    "onnxruntime",
    "lm_eval",
    "sklearn",
    "datasets",
    "peft",
    "huggingface_hub",
    "pyarrow",
    "rouge_score",
    "sacrebleu",
    "fsspec",
    "httpx",
    "tenacity",
    "scipy",
}

WITHOUT_TORCH = [
    "kdlab.cli",
    "kdlab.config",
    "kdlab.config.loading",
    "kdlab.config.completing",
    "kdlab.commands.train",
    "kdlab.commands.check",
    "kdlab.commands.jobs",
    "kdlab.commands.train_jobs",
    "kdlab.caching.recipe",
    "kdlab.answering.recipe",
    "kdlab.benchmarking.recipe",
    "kdlab.classifying.recipe",
    "kdlab.exporting.recipe",
    "kdlab.publishing.recipe",
    "kdlab.publishing.job",
    "kdlab.durable",
    "kdlab.pipelines.recipe",
    "kdlab.data.labels",
    "kdlab.text.task",
    "kdlab.commands.report",
    "kdlab.commands.completion",
    "kdlab.reporting.report",
    "kdlab.proportions",
    "kdlab.metrics.accuracy",
    "kdlab.text.final_numbers",
    "kdlab.losses",
    "kdlab.training.recipe",
]
"""Modules that `--help`, mistakes and reports go through."""
HEAVY = ("torch", "transformers", "datasets", "lightning", "peft", "matplotlib", "pyarrow", "numpy")


def part(file: Path) -> str:
    """The layer's name of a file: its first folder, or the file itself."""
    relative = file.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py").replace("__init__", "")


def imports(tree: ast.AST, *, functions: bool = True) -> Iterator[str]:
    """Every module imported below a node; without `functions`, only what runs when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module
            names = [alias.name for alias in node.names]
            yield from ([f"kdlab.{name}" for name in names] if node.module == "kdlab" else [node.module])
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            if functions:
                yield from imports(node)
        elif functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(node, functions=functions)


def roots(tree: ast.AST, *, functions: bool = True) -> set[str]:
    """The third-party packages among the imports."""
    found = {name.split(".")[0] for name in imports(tree, functions=functions)}
    return found - set(sys.stdlib_module_names) - {"kdlab"}


@pytest.fixture(params=FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def module(request: pytest.FixtureRequest) -> tuple[str, ast.Module]:
    file: Path = request.param
    return part(file), ast.parse(file.read_text(encoding="utf-8"))


def test_a_lower_layer_never_imports_a_higher_one(module: tuple[str, ast.Module]) -> None:
    name, tree = module
    inner = {dotted.split(".")[1] for dotted in imports(tree) if dotted.startswith("kdlab.")}
    inner = {other if other in {*LAYERS, "reporting"} else "" for other in inner}
    if name == "reporting":
        assert inner <= {"reporting", "proportions", ""}, "it reads only the files of runs"
        return
    assert "reporting" not in inner or LAYERS[name] == 4
    for other in inner - {"reporting"}:
        assert LAYERS[other] <= LAYERS[name], f"{name} imports {other}"


def test_third_party_packages_stay_in_their_layers(module: tuple[str, ast.Module]) -> None:
    name, tree = module
    if name == "reporting":
        assert roots(tree) <= REPORTING
        return
    allowed = set[str]().union(*(THIRD_PARTY[layer] for layer in range(LAYERS[name] + 1)))
    assert roots(tree) <= allowed
    if LAYERS[name] == 4:
        assert roots(tree) <= ONLY_THERE, "a command leaves the work to the layers below"


def test_heavy_packages_are_imported_where_they_are_needed(module: tuple[str, ast.Module]) -> None:
    _, tree = module
    assert not roots(tree, functions=False) & INSIDE_FUNCTIONS


def test_every_module_is_in_a_layer() -> None:
    assert {part(file) for file in FILES} <= {*LAYERS, "reporting"}


def test_what_answers_at_once_imports_nothing_heavy() -> None:
    code = (
        f"import importlib, sys\nfor name in {WITHOUT_TORCH}:\n    importlib.import_module(name)\n"
        f"    heavy = [m for m in {HEAVY} if m in sys.modules]\n    assert not heavy, (name, heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr.splitlines()[-1]
