"""The model that is exported: read once, in float32, when it is first needed, and written plain where a packer reads
files.

`.work/` in the output folder keeps what several variants are made of, so that a killed export does not make it again.
"""

from __future__ import annotations

import copy
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

from kdlab.durable import read_json, replace_folder, write_json
from kdlab.exporting.graph import GRAPH, write_graph
from kdlab.exporting.torch_variant import TorchVariant, read_source
from kdlab.exporting.variants import CLASSIFIER, Variant, model_folder, open_variant
from kdlab.models.quantization import saved_method
from kdlab.models.weights_hash import source_hash
from kdlab.models.writing import save_student

WORK = ".work"
MADE = "made.json"
VERSION = 1
"""Raised when what is written below is written otherwise than before."""


class Original:
    """The model at `path`, an option's value. `work` is the folder for what variants have in common."""

    def __init__(self, path: str, *, work: Path, device: str) -> None:
        self.path, self.work, self.device = model_folder(path, "model.path"), work, device
        folder = Path(self.path).expanduser()
        self.source, self.task = read_source(self.path, folder if folder.is_dir() else None, option="model.path")
        self.identity = source_hash(self.source)

    @cached_property
    def variant(self) -> Variant:
        """The model as a user opens it. Raises ValueError for weights that are packed already."""
        opened = open_variant(self.path, device=self.device, dtype="float32", option="model.path")
        assert isinstance(opened, TorchVariant)
        if saved_method(opened.model.config) is not None:
            raise ValueError(
                f"model.path={self.path}: its weights are packed already ({saved_method(opened.model.config)}); "
                "give the plain model"
            )
        return opened

    def graph(self) -> Path:
        """The model as an ONNX graph in float32."""
        return self._kept("graph", self._write_graph) / GRAPH

    def plain(self) -> Path:
        """A folder of plain weights."""
        if self.source.kind == "folder" and self.source.folder is not None:
            return self.source.folder
        return self._kept("plain", self._write_plain)

    def _kept(self, name: str, write: Any) -> Path:
        """A folder below `work` that is of this model: as it is, or written."""
        folder, made = self.work / name, {"identity": self.identity, "version": VERSION}

        def fill(beside: Path) -> None:
            write(beside)
            write_json(beside / MADE, made)

        if read_json(folder / MADE) != made:
            replace_folder(folder, fill)
        return folder

    def _write_graph(self, folder: Path) -> None:
        opened = self.variant
        assert isinstance(opened, TorchVariant)
        model = copy.deepcopy(opened.model).cpu()  # its head gets a matrix of its own
        write_graph(model, folder / GRAPH, classifies=opened.kind == CLASSIFIER)

    def _write_plain(self, folder: Path) -> None:
        opened = self.variant
        assert isinstance(opened, TorchVariant)
        save_student(opened.model, opened.tokenizer, folder, self.task)

    def write_beside(self, folder: Path) -> None:
        """Config, tokenizer and task, for a variant whose weights say nothing of them."""
        opened = self.variant
        assert isinstance(opened, TorchVariant)
        config = copy.deepcopy(opened.config)
        if not config.architectures:
            config.architectures = [type(opened.model).__name__]
        config.save_pretrained(folder)
        opened.tokenizer.save_pretrained(folder)
        if opened.task is not None:
            opened.task.save(folder)
        if opened.kind != CLASSIFIER and opened.model.generation_config is not None:
            opened.model.generation_config.save_pretrained(folder)

    def forget(self) -> None:
        """Delete what variants have in common."""
        shutil.rmtree(self.work, ignore_errors=True)
