"""One side of the rows, read a chunk at a time: its raw logits in a buffer that is reused, and the way back.

A raw chunk x is what a matrix product leaves in the buffer. The tempered logits are z = logits / T:

    without a soft-cap c:  x = (scale / T)(hidden @ weight.T + bias),  z = x
    with one:              x = (scale / c)(hidden @ weight.T + bias),  z = (c / T) tanh(x)

In float32 and float64 the factor goes into the hidden states, so it costs nothing; narrower types would round, so there
the raw chunk is hidden @ weight.T + bias and the factor is applied to the tile in float32.

Shape letters: N rows, n rows of one chunk, r rows of one tile, V vocabulary or classes, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kdlab.rows import Dense, Side

CPU_ELEMENTS = 256 * 49152
"""Logits in a chunk. On CPUs, matrix products of 256 rows run at full speed; those of 64 are a quarter slower."""
GPU_ELEMENTS = 1024 * 65536
"""As many keep a large GPU busy at 256 MiB a side in float32. Chosen by arithmetic, not measured."""
LEAST_ROWS = 256
CPU_TILE = 2**17
"""Logits in a tile for each thread: its handful of float32 temporaries stays in the core's second-level cache."""
GPU_TILE = 2**24
WEIGHT_BLOCK = 16384
"""Rows of the weight's gradient that are accumulated at a time where products are narrower than the accumulator."""


def spans(rows: int, vocabulary: int, requested: int | str, device: torch.device) -> list[tuple[int, int]]:
    """Start and end of each chunk: as equal as can be, because a small last chunk is a slow one."""
    elements = CPU_ELEMENTS if device.type == "cpu" else GPU_ELEMENTS
    longest = requested if isinstance(requested, int) else max(LEAST_ROWS, elements // vocabulary)
    count = -(-rows // longest)
    return [(rows * i // count, rows * (i + 1) // count) for i in range(count)]


def tile_rows(vocabulary: int, device: torch.device) -> int:
    elements = CPU_TILE * torch.get_num_threads() if device.type == "cpu" else GPU_TILE
    return max(1, elements // vocabulary)


def math_dtype(dtype: torch.dtype) -> torch.dtype:
    """Softmax and sums: float64 stays, everything else is float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


@dataclass(frozen=True)
class Tempering:
    """From a raw tile to logits / T and back: z = factor * x, then cap * tanh(z) where there is a soft-cap."""

    factor: float = 1.0
    cap: float | None = None

    def __call__(self, raw_rV: Tensor, dtype: torch.dtype) -> Tensor:
        tempered_rV = raw_rV.to(dtype)
        if self.factor != 1:
            tempered_rV = tempered_rV * self.factor
        return tempered_rV if self.cap is None else tempered_rV.tanh().mul_(self.cap)

    def back(self, gradient_rV: Tensor, tempered_rV: Tensor) -> Tensor:
        """dL/dz to dL/d(factor * x); the factor itself is left to the matrix products' small operands."""
        if self.cap is None:
            return gradient_rV
        return gradient_rV.mul_(self.cap - tempered_rV.square() / self.cap)


class Reader:
    """Chunks of raw logits of one side, all in the same buffer."""

    def __init__(self, side: Side, temperature: float, longest: int) -> None:
        self.dense = isinstance(side, Dense)
        self.vocabulary = side.vocabulary
        if isinstance(side, Dense):
            self.logits_NV = side.logits_NV.detach()
            self.dtype, self.device = self.logits_NV.dtype, self.logits_NV.device
            self.factor, self.tempering = 1 / temperature, Tempering(factor=1 / temperature)
            self.can_mask = True
            return
        self.hidden_NH = side.hidden_NH.detach()
        self.dtype, self.device = self.hidden_NH.dtype, self.hidden_NH.device
        self.weight_VH = side.weight_VH.detach().to(self.dtype)
        self.factor = side.scale / (temperature if side.softcap is None else side.softcap)
        self.folds = math_dtype(self.dtype) == self.dtype
        self.tempering = Tempering(
            factor=1.0 if self.folds else self.factor,
            cap=None if side.softcap is None else side.softcap / temperature,
        )
        self.bias_V = None
        if side.bias_V is not None:
            self.bias_V = side.bias_V.detach().to(self.dtype) * (self.factor if self.folds else 1.0)
        self.can_mask = side.bias_V is not None and side.softcap is None
        self.buffer_nV = self.hidden_NH.new_empty(longest, side.vocabulary)

    def hidden(self, start: int, end: int) -> Tensor:
        """The hidden states that enter the chunk's product."""
        hidden_nH = self.hidden_NH[start:end]
        return hidden_nH * self.factor if self.folds else hidden_nH

    def chunk(self, start: int, end: int) -> Tensor:
        """Raw logits `[n, V]`: a view of the buffer that the next call overwrites, or of the dense logits."""
        if self.dense:
            return self.logits_NV[start:end]
        out_nV = self.buffer_nV[: end - start]
        if self.bias_V is None:
            return torch.mm(self.hidden(start, end), self.weight_VH.T, out=out_nV)
        return torch.addmm(self.bias_V, self.hidden(start, end), self.weight_VH.T, out=out_nV)


class Gradients:
    """The student's gradients, filled chunk by chunk. All are multiplied by `scale`, the loss's weight over the count.

    That happens in the forward, so that the backward has nothing left to do; but a narrow gradient of hidden states or
    logits waits for it, with the factor `late`: float16 would underflow before a loss scaler multiplies it up.
    """

    def __init__(self, reader: Reader, side: Side, needed: tuple[bool, ...], scale: float) -> None:
        self.reader = reader
        self.wide = math_dtype(reader.dtype) == reader.dtype
        self.scale, self.scale_back = scale, reader.factor * scale
        self.late = 1.0 if self.wide else self.scale_back
        self.logits_NV = self.hidden_NH = self.weight_VH = self.bias_V = None
        if isinstance(side, Dense):
            self.logits_NV = torch.empty_like(reader.logits_NV)
            return
        self.weight_dtype = side.weight_VH.dtype
        self.bias_dtype = None if side.bias_V is None else side.bias_V.dtype
        sums = math_dtype(reader.dtype)
        if needed[0]:
            self.hidden_NH = torch.empty(reader.hidden_NH.shape, dtype=reader.dtype, device=reader.device)
        if needed[1]:
            new = torch.empty if self.wide and len(side) else torch.zeros
            self.weight_VH = new(side.weight_VH.shape, dtype=sums, device=reader.device)
        if needed[2]:
            self.bias_V = torch.zeros(side.vocabulary, dtype=sums, device=reader.device)

    def out(self, raw_nV: Tensor, start: int, end: int) -> Tensor:
        """Where the chunk's gradient with respect to its raw logits goes: over the raw logits, if they are ours."""
        return raw_nV if self.logits_NV is None else self.logits_NV[start:end]

    def add(self, gradient_nV: Tensor, start: int, end: int) -> None:
        """Use a chunk's gradient up."""
        if self.logits_NV is not None and self.wide:
            gradient_nV.mul_(self.scale_back)
        if self.hidden_NH is not None:
            out_nH = torch.mm(gradient_nV, self.reader.weight_VH, out=self.hidden_NH[start:end])
            if self.wide:
                out_nH.mul_(self.scale_back)
        if self.weight_VH is not None:
            self._add_weight(self.weight_VH, gradient_nV, self.reader.hidden(start, end), first=start == 0)
        if self.bias_V is not None:
            self.bias_V += gradient_nV.sum(0, dtype=self.bias_V.dtype)

    def _add_weight(self, weight_VH: Tensor, gradient_nV: Tensor, hidden_nH: Tensor, *, first: bool) -> None:
        if self.wide:  # the first product fills the new memory, so nobody has to zero it
            torch.addmm(weight_VH, gradient_nV.T, hidden_nH * self.scale, beta=0 if first else 1, out=weight_VH)
            return
        blocks = zip(torch.split(weight_VH, WEIGHT_BLOCK), torch.split(gradient_nV, WEIGHT_BLOCK, dim=1), strict=True)
        for weight_bH, gradient_nb in blocks:
            weight_bH += gradient_nb.T @ hidden_nH

    def finish(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of (hidden or logits, weight, bias); the first still lacks the factor `late`."""
        if self.logits_NV is not None:
            return self.logits_NV, None, None
        if self.weight_VH is not None:
            if not self.wide:
                self.weight_VH.mul_(self.scale_back)
            self.weight_VH = self.weight_VH.to(self.weight_dtype)
        if self.bias_V is not None:
            self.bias_V = self.bias_V.mul_(self.scale_back).to(self.bias_dtype)
        return self.hidden_NH, self.weight_VH, self.bias_V
