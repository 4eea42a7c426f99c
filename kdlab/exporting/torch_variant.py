"""A variant that PyTorch runs: plain weights, an adapter upon them, or weights packed by torchao or bitsandbytes.

Shape letters: B batch, T time, C classes, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kdlab.exporting.texts import ends_of, foreign_task, pad_of
from kdlab.exporting.variants import CAUSAL, CLASSIFIER, Variant
from kdlab.models.classifier import deciding_in_float32, load_classifier
from kdlab.models.label_names import names_of
from kdlab.models.loading import load_config, load_language_model, load_tokenizer
from kdlab.models.size import measure
from kdlab.models.source import Source, disk_bytes, resolve
from kdlab.text.task import Task, read_task

if TYPE_CHECKING:
    from numpy.typing import NDArray

GGUF_FILE = "model.gguf"


@dataclass(kw_only=True)
class TorchVariant(Variant):
    """`model` is one of transformers."""

    model: Any

    def forward(self, ids_BT: NDArray[np.int64], mask_BT: NDArray[np.int64]) -> NDArray[np.float32]:
        decides = self.kind == CLASSIFIER
        told: dict[str, Any] = {} if decides else {"use_cache": False}
        with torch.no_grad(), deciding_in_float32(self.model) if decides else nullcontext():
            logits = self.model(
                input_ids=torch.from_numpy(ids_BT).to(self.model.device),
                attention_mask=torch.from_numpy(mask_BT).to(self.model.device),
                **told,
            ).logits
        return _array(logits)

    @property
    def held_bytes(self) -> int:
        return measure(self.model).bytes

    def reader(self) -> Callable[[Sequence[int]], NDArray[np.float32]]:
        """Keeps keys and values of what was read."""
        past: Any = None

        def more(ids: Sequence[int]) -> NDArray[np.float32]:
            nonlocal past
            ids_BT = torch.tensor([list(ids)], device=self.model.device)
            with torch.no_grad():
                found = self.model(input_ids=ids_BT, past_key_values=past, use_cache=True)
            past = found.past_key_values
            return _array(found.logits[0, -1])

        return more


def _array(logits: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = logits.float().cpu().numpy()
    return array


def open_torch(
    path: str, described: dict[str, Any] | None, *, device: str, dtype: str, option: str = "path"
) -> TorchVariant:
    """The model at `path`: a folder, a hub id, a GGUF file or `tiny:llama`. `described` is the content of its
    variant.json, if it has one."""
    folder = Path(path).expanduser() if Path(path).expanduser().is_dir() else None
    if described is not None and described["variant"] == "gguf":
        assert folder is not None
        path = str(folder / GGUF_FILE)
    source, task = read_source(path, folder, option=option)
    tokenizer = load_tokenizer(path if folder is None else str(folder), option=option)
    model: Any
    if task is None:
        model = load_language_model(path, dtype=dtype, device=device, option=option)
        if model.config.is_encoder_decoder:
            raise ValueError(f"{option}={path}: an encoder-decoder; `kdlab generate` lets it write")
    else:
        model = load_classifier(path, task=task, fresh_head=False, dtype=dtype, device=device, option=option)
    return TorchVariant(
        name="torch" if described is None else described["variant"],
        folder=folder,
        kind=CAUSAL if task is None else CLASSIFIER,
        task=task,
        tokenizer=tokenizer,
        config=model.config,
        pad_id=pad_of(model.config, tokenizer),
        ends=ends_of(source.folder, tokenizer),
        disk_bytes=Path(path).stat().st_size if path.endswith(GGUF_FILE) else disk_bytes(source),
        model=model,
    )


def read_source(path: str, folder: Path | None, *, option: str) -> tuple[Source, Task | None]:
    """Where a model lies, and its task if it is a classifier; one that kdlab did not train gets the task of its
    config."""
    source = resolve(path, option=option)
    if folder is not None and (task := read_task(folder)) is not None:
        return source, task
    config = load_config(source, f"{option}={path}")
    if source.base is None and names_of(config, source) is not None:
        return source, foreign_task(config)
    return source, None
