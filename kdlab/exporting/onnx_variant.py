"""A variant that onnxruntime runs.

Shape letters: B batch, T time, C classes, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdlab.exporting.graph import GRAPH, INPUTS
from kdlab.exporting.texts import ends_of, pad_of, read_beside
from kdlab.exporting.variants import Variant

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(kw_only=True)
class OnnxVariant(Variant):
    """`session` runs the graph."""

    session: Any

    def forward(self, ids_BT: NDArray[np.int64], mask_BT: NDArray[np.int64]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self.session.run(None, dict(zip(INPUTS, (ids_BT, mask_BT), strict=True)))[0]
        return found


def open_onnx(folder: Path, described: dict[str, Any], *, threads: int, option: str) -> OnnxVariant:
    """The variant in `folder`, as its variant.json describes it; an `option` gave it."""
    config, tokenizer, task = read_beside(folder, option=option)
    return OnnxVariant(
        name=described["variant"],
        folder=folder,
        kind=described["kind"],
        task=task,
        tokenizer=tokenizer,
        config=config,
        pad_id=pad_of(config, tokenizer),
        ends=ends_of(folder, tokenizer),
        disk_bytes=sum(file.stat().st_size for file in folder.glob(f"{GRAPH}*")),
        session=open_session(folder / GRAPH, threads=threads),
    )


def open_session(file: Path, *, threads: int) -> Any:
    """onnxruntime's session of a graph. Raises ValueError where it is missing or damaged, or the package is not
    installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(f"{file}: onnxruntime is not installed; pip install 'kdlab[export]'") from error
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; export the variant again")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class of their own
        words = " ".join(str(error).split())[:160]
        raise ValueError(f"{file}: onnxruntime cannot open it ({words})") from error
