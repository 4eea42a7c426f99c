"""A model as an ONNX graph in float32: `input_ids` and `attention_mask` [B, T] to `logits`, B and T of any size.

Shape letters: B batch, T time, C classes, V vocabulary.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kdlab.exporting.record import TRACE

if TYPE_CHECKING:
    from transformers import PreTrainedModel

GRAPH = "model.onnx"
INPUTS = ("input_ids", "attention_mask")
OUTPUT = "logits"
ONE_FILE = 1_900_000_000
"""Bytes of weights that fit into one protobuf file with the graph around them; more lie beside it."""
LONGEST = 1 << 20
"""An upper bound of B and T; what a model has positions for is its own affair."""


class Logits(nn.Module):
    """A model of transformers without what a graph has no use for: `[B, C]` of a classifier, `[B, T, V]` of a model
    that writes."""

    def __init__(self, model: PreTrainedModel, *, classifies: bool) -> None:
        super().__init__()
        self.model = model
        self.options: dict[str, Any] = {} if classifies else {"use_cache": False}

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, **self.options).logits
        return logits


def write_graph(model: PreTrainedModel, file: Path, *, classifies: bool) -> None:
    """Write `model` (float32, on the CPU) to `file`; its weights beside it, in `model.onnx.data`, where one file cannot
    hold them.

    A head that shares its matrix with the embedding gets a copy of its own: shared, it is turned around at every call,
    and cannot be kept in 8 bits. Raises ValueError with one line where PyTorch cannot export the model.
    """
    untie(model)
    config = model.config
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    longest = min(LONGEST, getattr(config, "max_position_embeddings", None) or LONGEST)
    B, T = torch.export.Dim("batch", min=1, max=LONGEST), torch.export.Dim("tokens", min=1, max=longest)
    ids_BT = torch.arange(3, 3 + 2 * 8).reshape(2, 8) % config.vocab_size
    mask_BT = torch.ones_like(ids_BT)
    mask_BT[1, 6:] = 0
    if config.pad_token_id is not None:
        ids_BT[1, 6:] = config.pad_token_id
    axes = {0: B, 1: T}
    with quiet_exporter():
        try:
            program: Any = torch.onnx.export(
                Logits(model, classifies=classifies).eval(),
                (ids_BT, mask_BT),
                dynamo=True,
                input_names=list(INPUTS),
                output_names=[OUTPUT],
                dynamic_shapes=dict.fromkeys(INPUTS, axes),
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ValueError(
                f"{type(model).__name__}: PyTorch exports no ONNX graph of it ({_first(error)})"
            ) from error
        for node in program.model.graph.all_nodes():
            node.metadata_props.pop(TRACE, None)  # this machine's folders are nobody else's affair
        program.save(file, external_data=weights > ONE_FILE)


def untie(model: PreTrainedModel) -> None:
    """Give a head that shares the embedding's matrix its own."""
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and head.weight is table.weight:
        head.weight = nn.Parameter(table.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Without the exporter's word on every step and every future default."""
    names = ("torch.onnx", "torch.export", "torch.fx", "onnxscript", "onnx_ir")
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _first(error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return (lines or [type(cause).__name__])[0][:160]
