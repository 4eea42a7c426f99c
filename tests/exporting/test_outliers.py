"""What is done to a graph before it is quantised leaves its function as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from kdlab.exporting.onnx_forms import pack_blocks
from kdlab.exporting.outliers import LEVELS, Graph, largest, narrowing, pack_tables, per_token, spread

V, H, C = 3000, 32, 5


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An embedding of which two products with constant matrices are taken; one column, and some tokens, are huge."""
    drawn = np.random.default_rng(0)
    table_VH = drawn.normal(size=(V, H)).astype(np.float32)
    table_VH[:, 3] *= 80
    table_VH[::7] *= 50
    constants = {"table": table_VH, "left": drawn.normal(size=(H, C)), "right": drawn.normal(size=(H, C))}
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["hidden"], name="gather"),
        helper.make_node("Cast", ["attention_mask"], ["mask"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "axis"], ["mask_BT1"], name="unsqueeze"),
        helper.make_node("MatMul", ["hidden", "left"], ["a"], name="left"),
        helper.make_node("MatMul", ["hidden", "right"], ["b"], name="right"),
        helper.make_node("Add", ["a", "b"], ["sum"], name="add"),
        helper.make_node("Mul", ["sum", "mask_BT1"], ["logits"], name="mul"),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "T"]) for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", "T", C])
    stored = [numpy_helper.from_array(np.asarray(a, np.float32), name) for name, a in constants.items()]
    stored.append(numpy_helper.from_array(np.array([-1], np.int64), "axis"))
    graph = helper.make_graph(nodes, "graph", inputs, [output], stored)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def answer(file: Path) -> Any:
    ids_BT = np.random.default_rng(1).integers(0, V, (3, 11))
    session = onnxruntime.InferenceSession(str(file))
    return session.run(None, {"input_ids": ids_BT, "attention_mask": np.ones_like(ids_BT)})[0]


def seen(graph: Graph, file: Path) -> Any:
    return largest(graph, [list(range(100)), [V - 1, 7]], scratch=file.with_name("seen.onnx"), large=False)


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda graph, tops: spread(graph, tops),
        lambda graph, tops: per_token(graph),
        lambda graph, tops: (spread(graph, tops), per_token(graph)),
        lambda graph, tops: (spread(graph, tops, but=["right"]), per_token(graph, but=["right"])),
    ],
    ids=["spread", "per_token", "both", "all_but_one"],
)
def test_products_come_to_the_same(file: Path, rewrite: Callable[[Graph, Any], object]) -> None:
    before, graph = answer(file), Graph(file)
    rewrite(graph, seen(graph, file))
    graph.save(file, large=False)
    np.testing.assert_allclose(answer(file), before, rtol=1e-4, atol=1e-3 * np.abs(before).max())


def test_the_largest_number_of_each_column_is_found(file: Path) -> None:
    graph = Graph(file)
    read = np.abs(graph.array("table"))[[*range(100), V - 1]].max(0)
    np.testing.assert_array_equal(seen(graph, file)["hidden"], read)


def test_spreading_evens_the_columns_out(file: Path) -> None:
    graph = Graph(file)
    before_H = seen(graph, file)["hidden"]
    spread(graph, {"hidden": before_H})
    (after_H,) = seen(graph, file).values()
    assert after_H.max() / np.median(after_H) < 0.3 * before_H.max() / np.median(before_H)


def test_a_row_of_a_table_errs_by_half_a_step_at_most(file: Path) -> None:
    graph = Graph(file)
    table_VH = graph.array("table")
    pack_tables(graph)
    packed_VH = graph.array("table/int8").astype(np.float64) * graph.array("table/scale")
    step_V = np.abs(table_VH).max(1) / LEVELS
    assert (np.abs(packed_VH - table_VH).max(1) <= 0.5001 * step_V).all()
    assert "table" not in graph.constants, "the float table would still be in the file"
    before = answer(file)
    graph.save(file, large=False)
    np.testing.assert_allclose(answer(file), before, atol=0.02 * np.abs(before).max())


def test_products_that_narrow_are_told_by_their_shapes(file: Path) -> None:
    graph = Graph(file)
    assert narrowing(graph) == graph.names() == ["left", "right"]
    assert narrowing(graph, but=["left"]) == ["right"]
    graph.put("right", np.zeros((H, H), np.float32))
    assert narrowing(graph) == ["left"], "as many outputs as inputs"


def test_blocks_keep_an_outlier_to_themselves(file: Path) -> None:
    """One input of 128 is a hundred times as large as the rest: only its block of 32 loses digits."""
    graph = Graph(file)
    drawn = np.random.default_rng(2)
    table_VH = drawn.normal(size=(V, 4 * H)).astype(np.float32)
    table_VH[:, 3] *= 100
    weights_HC = drawn.normal(size=(4 * H, C)).astype(np.float32)
    weights_HC[:H] = 0  # what the outlier's block is multiplied by
    graph.put("table", table_VH)
    graph.put("left", weights_HC)
    graph.put("right", np.zeros_like(weights_HC))
    graph.save(file, large=False)
    before, packed = answer(file), Graph(file)
    pack_blocks(packed, bits=8, only=["left"])
    packed.save(file, large=False)
    assert [node.op_type for node in packed.model.graph.node].count("MatMulNBits") == 1
    one_range = np.abs(table_VH).max() / LEVELS  # the step that all inputs would share
    error = np.abs(answer(file) - before).std()
    assert 0 < error < 0.05 * one_range * np.linalg.norm(weights_HC, axis=0).mean()
