"""An ONNX graph in fewer bits: weights and activations in 8, or weights alone in 8 or 4."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdlab.exporting.graph import GRAPH, INPUTS, ONE_FILE
from kdlab.exporting.outliers import Graph, largest, narrowing, pack_tables, per_token, spread
from kdlab.exporting.processor import Processor

BLOCK = 32
"""Weights that share a scale, where they have more than one an output channel."""


def quantise_dynamic(
    graph: Path, file: Path, *, processor: Processor, examples: Sequence[Sequence[int]], keep_last: bool
) -> None:
    """8-bit weights, one scale an output channel, and embeddings; activations get a range for each token when the model
    runs. Products that narrow have a scale and a range for each block of 32 inputs. `examples` (token ids) say where
    the outliers are. `keep_last` leaves the last product in float32: a classifier's head, which is small and
    decides."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet_quantiser(), _prepared(graph, file, examples, tokens=True, keep_last=keep_last) as (prepared, kept):
        quantize_dynamic(
            prepared,
            file,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=kept,
            per_channel=True,
            reduce_range=processor.reduce_range,
            weight_type=QuantType.QInt8,
            use_external_data_format=_is_large(graph),
        )


def quantise_static(
    graph: Path, file: Path, *, processor: Processor, examples: Sequence[Sequence[int]], keep_last: bool
) -> None:
    """As `quantise_dynamic`, but with the ranges of activations that `examples` have, one for all tokens."""
    from onnxruntime.quantization import QuantType, quantize_static

    with quiet_quantiser(), _prepared(graph, file, examples, tokens=False, keep_last=keep_last) as (prepared, kept):
        quantize_static(
            prepared,
            file,
            _reader(examples),
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=kept,
            per_channel=True,
            reduce_range=processor.reduce_range,
            activation_type=QuantType.QInt8 if processor.signed else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            use_external_data_format=_is_large(graph),
            extra_options={"MatMulConstBOnly": True},
        )


def pack_weights(graph: Path, file: Path, *, bits: int) -> None:
    """Weights in `bits` bits, symmetric, one scale a block of 32 (MatMulNBits); products with activations in 8 bits
    that are made block by block (accuracy level 4). Embeddings in 8 bits, a scale a row."""
    with quiet_quantiser():
        opened = Graph(graph)
        pack_tables(opened)
        pack_blocks(opened, bits=bits)
        opened.save(file, large=_is_large(graph))


def pack_blocks(graph: Graph, *, bits: int, only: Sequence[str] | None = None) -> None:
    """Products (None: all) with weights in `bits` bits, one scale a block of 32, whose inputs are made 8 bits block by
    block when the model runs."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    others = [] if only is None else sorted(set(graph.names()) - set(only))
    packer = MatMulNBitsQuantizer(
        graph.model,
        bits=bits,
        block_size=BLOCK,
        is_symmetric=True,
        accuracy_level=4,
        nodes_to_exclude=others,
    )
    packer.process()
    graph.take(packer.model.model)


@contextmanager
def _prepared(
    graph: Path, file: Path, examples: Sequence[Sequence[int]], *, tokens: bool, keep_last: bool
) -> Iterator[tuple[Path, list[str]]]:
    """The graph made fit for 8 bits, beside `file` for the time of the block, and the names of products that stay."""
    large, scratch = _is_large(graph), file.with_name(".prepared.onnx")
    opened = Graph(graph)
    kept = opened.names()[-1:] if keep_last else []
    try:
        blocks = narrowing(opened, but=kept)
        rest = [*kept, *blocks]
        spread(opened, largest(opened, examples, scratch=scratch, large=large), but=rest)
        if tokens:
            per_token(opened, but=rest)
        pack_tables(opened)
        pack_blocks(opened, bits=8, only=blocks)
        opened.save(scratch, large=large)
        yield scratch, kept
    finally:
        for left in file.parent.glob(f"{scratch.name}*"):
            left.unlink()


def _is_large(graph: Path) -> bool:
    return sum(file.stat().st_size for file in graph.parent.glob(f"{GRAPH}*")) > ONE_FILE


def _reader(examples: Sequence[Sequence[int]]) -> Any:
    """One example after the other, as the quantiser reads them."""
    import numpy as np
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(examples)

        def get_next(self) -> dict[str, Any] | None:
            ids = next(self.left, None)
            if ids is None:
                return None
            ids_BT = np.asarray([ids], np.int64)
            return dict(zip(INPUTS, (ids_BT, np.ones_like(ids_BT)), strict=True))

    return Reader()


@contextmanager
def quiet_quantiser() -> Iterator[None]:
    """Without onnxruntime's advice and its list of every node, and without the handler and the level that importing its
    packer sets for the whole process."""
    root = logging.getLogger()
    level, handlers, disabled = root.level, root.handlers[:], root.manager.disable
    try:
        logging.disable(logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.setLevel(level)
        root.handlers[:] = handlers
