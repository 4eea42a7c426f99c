"""How each variant is written: `FORMS` by name."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdlab.exporting.graph import GRAPH
from kdlab.exporting.onnx_forms import pack_weights, quantise_dynamic, quantise_static
from kdlab.exporting.original import Original
from kdlab.exporting.processor import Processor
from kdlab.exporting.torch_forms import INT4_NOTE, write_int4, write_packed
from kdlab.exporting.torch_variant import GGUF_FILE
from kdlab.exporting.variants import CLASSIFIER

CONVERTER = "convert_hf_to_gguf"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the options say of how variants are made; `calibration` gives token ids, read when they are needed."""

    processor: Processor
    calibration: Callable[[], Sequence[Sequence[int]]]
    calibration_count: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Form:
    """`write(original, folder, told)` writes the weights into a folder; it raises ValueError with one line where they
    cannot be had. `uses` are the options that change them, `needs` the packages, `note` is said of the variant."""

    write: Callable[[Original, Path, Told], None]
    needs: tuple[str, ...]
    uses: tuple[str, ...] = ()
    note: str | None = None


def _onnx(original: Original, folder: Path, told: Told) -> None:
    graph = original.graph()
    for file in graph.parent.glob(f"{GRAPH}*"):
        shutil.copy2(file, folder / file.name)


def _onnx_int8(original: Original, folder: Path, told: Told) -> None:
    quantise_dynamic(original.graph(), folder / GRAPH, **_activations(original, told))


def _onnx_int8_static(original: Original, folder: Path, told: Told) -> None:
    quantise_static(original.graph(), folder / GRAPH, **_activations(original, told))


def _activations(original: Original, told: Told) -> dict[str, Any]:
    """What both ways of 8-bit activations are told."""
    keep_last = original.variant.kind == CLASSIFIER
    return {"processor": told.processor, "examples": told.calibration(), "keep_last": keep_last}


def _onnx_weights(bits: int) -> Callable[[Original, Path, Told], None]:
    def write(original: Original, folder: Path, told: Told) -> None:
        pack_weights(original.graph(), folder / GRAPH, bits=bits)

    return write


def _packed(variant: str) -> Callable[[Original, Path, Told], None]:
    def write(original: Original, folder: Path, told: Told) -> None:
        write_packed(variant, original.plain(), folder, task=original.task, device=original.device)

    return write


def _int4(original: Original, folder: Path, told: Told) -> None:
    write_int4(original.plain(), folder, task=original.task, device=original.device)


def _gguf(original: Original, folder: Path, told: Told) -> None:
    """By llama.cpp's own converter, which no package on the index carries."""
    if original.variant.kind == CLASSIFIER:
        raise ValueError("variants=gguf: holds models that write text, and this one is a classifier")
    script = shutil.which(f"{CONVERTER}.py")
    if script is not None:
        command = [sys.executable, script]
    elif importlib.util.find_spec(CONVERTER) is not None:
        command = [sys.executable, "-m", CONVERTER]
    else:
        raise ValueError(
            f"variants=gguf: llama.cpp's {CONVERTER}.py is not here; put its folder on PATH (git clone "
            "https://github.com/ggml-org/llama.cpp)"
        )
    ran = subprocess.run(
        [*command, str(original.plain()), "--outfile", str(folder / GGUF_FILE), "--outtype", "q8_0"],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode or not (folder / GGUF_FILE).is_file():
        said = (ran.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"variants=gguf: {CONVERTER}.py failed ({said[:160]})")


ONNX = ("onnx", "onnxscript", "onnxruntime")
FORMS: dict[str, Form] = {
    "onnx": Form(write=_onnx, needs=ONNX),
    "onnx_int8": Form(write=_onnx_int8, needs=ONNX, uses=("processor", "calibration", "seed")),
    "onnx_int8_static": Form(write=_onnx_int8_static, needs=ONNX, uses=("processor", "calibration", "seed")),
    "onnx_w8": Form(write=_onnx_weights(8), needs=ONNX),
    "onnx_w4": Form(write=_onnx_weights(4), needs=ONNX),
    "torchao_int8": Form(write=_packed("torchao_int8"), needs=("torchao",)),
    "torchao_int4": Form(write=_int4, needs=("torchao",), note=INT4_NOTE),
    "nf4": Form(write=_packed("nf4"), needs=("bitsandbytes",)),
    "gguf": Form(write=_gguf, needs=()),
}


def made_of(name: str, original: Original, told: Told) -> dict[str, Any]:
    """What a variant's bytes follow from: the model's weights, and the options that its form uses."""
    values = {"processor": told.processor.name, "calibration": told.calibration_count, "seed": told.seed}
    return {"identity": original.identity, **{option: values[option] for option in FORMS[name].uses}}
