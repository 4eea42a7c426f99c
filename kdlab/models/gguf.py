"""A GGUF file becomes, once, a plain safetensors folder that `from_pretrained` reads like any other.

transformers reads GGUF, but refuses to save or quantise what it read; a converted folder has neither problem.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from kdlab.models.progress import bars_on_terminals_only, say


def once(folder: Path, write: Callable[[Path], None]) -> Path:
    """`folder`, filled by `write` if it is not there yet. It appears whole or not at all, and a second process that
    wants it waits for the first."""
    from filelock import FileLock

    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if folder.is_dir():  # written while we waited
            return folder
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            write(draft)
            draft.chmod(0o755)  # made private by mkdtemp and safetensors; a cache may be shared
            for file in draft.iterdir():
                file.chmod(0o644)
            os.rename(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


def convert(file: Path, folder: Path) -> None:
    """Write the model and the tokenizer inside the GGUF `file` to `folder` as safetensors.

    Float32 and float16 files keep their format; quantised weights are spelt out in bfloat16.
    Raises ValueError for a file that is no GGUF or whose architecture transformers does not read.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"gguf_file": file.name, "local_files_only": True}
    with _parsed_once(), bars_on_terminals_only():
        try:
            name = {"F32": "float32", "F16": "float16"}.get(_weight_type(file), "bfloat16")
            say(f"converting {file.name} to safetensors ({name}), once")
            model = AutoModelForCausalLM.from_pretrained(
                file.parent, dtype=getattr(torch, name), quantization_config=GgufConfig(dequantize=True), **where
            )
            tokenizer = AutoTokenizer.from_pretrained(file.parent, **where)
        except Exception as error:  # on a broken file the readers raise whatever they trip over
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ValueError(f"{file}: transformers cannot read this GGUF file ({reason})") from error
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _weight_type(file: Path) -> str:
    """The type of most of the file's numbers: "F32", "F16", "Q4_1", ..."""
    import gguf

    entries: dict[str, int] = {}
    for tensor in gguf.GGUFReader(str(file)).tensors:
        entries[tensor.tensor_type.name] = entries.get(tensor.tensor_type.name, 0) + int(tensor.n_elements)
    return max(entries, key=lambda name: entries[name], default="none")


@contextmanager
def _parsed_once() -> Iterator[None]:
    """transformers parses the whole file five times, slowly, because numpy's memory maps are slow to slice. In here one
    parse is shared, over a plain array on the same memory: about a fifth of the time."""
    import gguf
    import numpy as np

    original = gguf.GGUFReader

    class PlainReader(original):  # type: ignore[misc, valid-type]
        @property
        def data(self) -> Any:
            return self._data

        @data.setter
        def data(self, mapped: Any) -> None:
            self._data = np.asarray(mapped)

    gguf.GGUFReader = cache(PlainReader)
    try:
        yield
    finally:
        gguf.GGUFReader = original
