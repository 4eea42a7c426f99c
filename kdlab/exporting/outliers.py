"""An ONNX graph made fit for 8 bits: the same function, in numbers that a few levels can tell apart.

A decoder's activations have a few columns, and a few tokens, that are a hundred times as large as the rest; one range
for all then leaves the rest two or three levels. Three rewritings, the first two exact in float32 (products that
narrow, whose inputs are the worst, are left out of them: they have a range for each block of 32 inputs):

    spread     every product X W becomes (X / s) (s W), s_j = max|X_j|^a / max|W_j|^(1-a) for each column j of X
               (SmoothQuant, Xiao et al., 2023), with a = 1/2
    per token  every product X W becomes r ((X / r) W), r the largest |x| of each token, so that one range fits all
    tables     embeddings in 8 bits with a scale a token of the vocabulary, not one for all

Shape letters: B batch, T time, H columns of a product's input, O of its output, V vocabulary.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdlab.exporting.graph import INPUTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

ALPHA = 0.5
LEAST = 1e-5
"""A column's largest number counts as at least this."""
LEVELS = 127
SMALL_TABLE = 1 << 16
"""A table of fewer numbers stays as it is (positions, token types)."""


class Graph:
    """A graph in memory, with what is looked up by name."""

    def __init__(self, file: Path) -> None:
        import onnx
        from onnxruntime.quantization.onnx_model import ONNXModel

        wrapped = ONNXModel(onnx.load(file))
        wrapped.replace_gemm_with_matmul()
        self.take(wrapped.model)

    def take(self, model: Any) -> None:
        """This model from now on."""
        self.model: Any = model
        self.constants = {constant.name: constant for constant in model.graph.initializer}

    def products(self, but: Sequence[str] = ()) -> dict[str, list[Any]]:
        """The products with a constant matrix, without those named in `but`, by the name of what is multiplied: q, k
        and v are of the same."""
        found: dict[str, list[Any]] = defaultdict(list)
        for node in self.model.graph.node:
            if node.op_type == "MatMul" and node.input[1] in self.constants and node.name not in but:
                found[node.input[0]].append(node)
        return dict(found)

    def names(self) -> list[str]:
        """Of all products, the last one last."""
        return [node.name for nodes in self.products().values() for node in nodes]

    def array(self, name: str) -> NDArray[Any]:
        from onnx import numpy_helper

        array: NDArray[Any] = numpy_helper.to_array(self.constants[name])
        return array

    def put(self, name: str, array: NDArray[Any]) -> str:
        """A constant of this name, new or in place of the one there is; returns the name."""
        from onnx import numpy_helper

        made = numpy_helper.from_array(np.ascontiguousarray(array), name)
        if name in self.constants:
            self.constants[name].CopyFrom(made)
        else:
            self.model.graph.initializer.append(made)
            self.constants[name] = self.model.graph.initializer[-1]
        return name

    def replace(self, nodes: Sequence[Any]) -> None:
        """These nodes in place of all, in the order in which they run."""
        kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del self.model.graph.node[:]
        self.model.graph.node.extend(kept)

    def save(self, file: Path, *, large: bool) -> None:
        import onnx

        # its shapes are of the graph as it was
        del self.model.graph.value_info[:]
        onnx.save(self.model, file, save_as_external_data=large, location=f"{file.name}.data")


def largest(graph: Graph, examples: Sequence[Sequence[int]], *, scratch: Path, large: bool) -> dict[str, Floats]:
    """The largest |x| `[H]` of each column of every product's input, over `examples` (token ids)."""
    from onnx import TensorProto, helper

    from kdlab.exporting.onnx_variant import open_session

    names, outputs = list(graph.products()), graph.model.graph.output
    own = list(outputs)
    del outputs[:]  # what only the logits need is not computed: a head over a vocabulary is most of the work
    outputs.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    try:
        graph.save(scratch, large=large)
    finally:
        del outputs[:]
        outputs.extend(own)
    session = open_session(scratch, threads=0)
    found: dict[str, Floats] = {}
    for ids in examples:
        ids_BT = np.asarray([ids], np.int64)
        seen = session.run(names, dict(zip(INPUTS, (ids_BT, np.ones_like(ids_BT)), strict=True)))
        for name, values in zip(names, seen, strict=True):
            top_H = np.abs(values).reshape(-1, values.shape[-1]).max(0)
            found[name] = np.maximum(found[name], top_H) if name in found else top_H
    return found


def narrowing(graph: Graph, *, but: Sequence[str] = ()) -> list[str]:
    """The names of products with fewer outputs than inputs: what leaves a feed-forward layer, whose inputs are products
    of two activations, and keys and values that several heads share."""
    found = []
    for nodes in graph.products(but).values():
        for node in nodes:
            inputs, outputs = graph.constants[node.input[1]].dims
            if outputs < inputs:
                found.append(node.name)
    return found


def spread(graph: Graph, largest_H: dict[str, Floats], *, but: Sequence[str] = ()) -> None:
    """Move the outliers of columns from what is multiplied into the matrices, as far as a half."""
    from onnx import helper

    before: dict[str, Any] = {}
    for name, nodes in graph.products(but).items():
        matrices = list(dict.fromkeys(node.input[1] for node in nodes))
        weights_H = np.max([np.abs(graph.array(matrix)).max(1) for matrix in matrices], axis=0)
        scale_H = np.maximum(largest_H[name], LEAST) ** ALPHA / np.maximum(weights_H, LEAST) ** (1 - ALPHA)
        scale_H = (scale_H / np.exp(np.log(scale_H).mean())).astype(np.float32)
        copies = {
            matrix: graph.put(f"{matrix}/of/{name}", graph.array(matrix) * scale_H[:, None]) for matrix in matrices
        }
        inverse = graph.put(f"{name}/inverse", 1 / scale_H)
        for node in nodes:
            node.input[0], node.input[1] = f"{name}/spread", copies[node.input[1]]
        before[nodes[0].name] = helper.make_node("Mul", [name, inverse], [f"{name}/spread"], name=f"{name}/spread")
    graph.replace([one for node in graph.model.graph.node for one in (before.get(node.name), node) if one is not None])
    _forget_unused(graph)


def per_token(graph: Graph, *, but: Sequence[str] = ()) -> None:
    """Divide what is multiplied by the largest number of each token, and multiply what comes out by it."""
    from onnx import helper

    last = graph.put("axis/last", np.array([-1], np.int64))
    least = graph.put("range/least", np.array(1e-8, np.float32))
    by_input = graph.products(but)
    first = {nodes[0].name for nodes in by_input.values()}
    chosen = {node.name for nodes in by_input.values() for node in nodes}
    made: list[Any] = []
    for node in graph.model.graph.node:
        name = node.input[0] if node.input else ""
        if node.name in first:
            made += [
                helper.make_node("Abs", [name], [f"{name}/abs"], name=f"{name}/abs"),
                helper.make_node("ReduceMax", [f"{name}/abs", last], [f"{name}/top"], name=f"{name}/top", keepdims=1),
                helper.make_node("Max", [f"{name}/top", least], [f"{name}/range"], name=f"{name}/range"),
                helper.make_node("Div", [name, f"{name}/range"], [f"{name}/unit"], name=f"{name}/unit"),
            ]
        made.append(node)
        if node.name in chosen:
            out = node.output[0]
            node.input[0], node.output[0] = f"{name}/unit", f"{out}/unit"
            made.append(helper.make_node("Mul", [f"{out}/unit", f"{name}/range"], [out], name=f"{out}/token"))
    graph.replace(made)


def pack_tables(graph: Graph) -> None:
    """Embeddings as int8 with one scale a row: E_v = scale_v q_v, scale_v = max|E_v| / 127."""
    from onnx import TensorProto, helper

    nodes: list[Any] = []
    for node in graph.model.graph.node:
        table = node.input[0] if node.op_type == "Gather" else ""
        if not _is_table(graph, node, table):
            nodes.append(node)
            continue
        if f"{table}/int8" not in graph.constants:
            values_VH = graph.array(table)
            scale_V1 = np.maximum(np.abs(values_VH).max(1, keepdims=True), 1e-12) / LEVELS
            graph.put(f"{table}/int8", np.rint(values_VH / scale_V1).astype(np.int8))
            graph.put(f"{table}/scale", scale_V1.astype(np.float32))
        ids, out = node.input[1], node.output[0]
        nodes += [
            helper.make_node("Gather", [f"{table}/int8", ids], [f"{out}/int8"], name=f"{out}/int8", axis=0),
            helper.make_node("Cast", [f"{out}/int8"], [f"{out}/float"], name=f"{out}/float", to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{table}/scale", ids], [f"{out}/scale"], name=f"{out}/scale", axis=0),
            helper.make_node("Mul", [f"{out}/float", f"{out}/scale"], [out], name=f"{out}/packed"),
        ]
    graph.replace(nodes)
    _forget_unused(graph)


def _is_table(graph: Graph, node: Any, table: str) -> bool:
    if table not in graph.constants or any(a.name == "axis" and a.i != 0 for a in node.attribute):
        return False
    constant = graph.constants[table]
    return len(constant.dims) == 2 and int(np.prod(constant.dims)) >= SMALL_TABLE and constant.data_type == 1


def _forget_unused(graph: Graph) -> None:
    """Drop constants that no node reads."""
    used = {name for node in graph.model.graph.node for name in node.input}
    kept = [constant for constant in graph.model.graph.initializer if constant.name in used]
    kept = [type(constant).FromString(constant.SerializeToString()) for constant in kept]
    del graph.model.graph.initializer[:]
    graph.model.graph.initializer.extend(kept)
    graph.constants = {constant.name: constant for constant in graph.model.graph.initializer}
