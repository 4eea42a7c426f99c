"""How many bytes of tensors exist at once while a model works: it is run on tensors that have shapes and no memory.

PyTorch's fake tensors go through the very operations of a forward and a backward pass, autograd included; the bytes of
every tensor that appears are added, and taken off again when it dies. So what autograd keeps for the backward, what
gradient checkpointing saves of it, and what a fused attention does not keep, come out as they would in the run.

Shape letters: B batch, T time, S source time, N rows, V vocabulary, H hidden.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.weak import WeakIdKeyDictionary

from kdlab.batch import Batch
from kdlab.models.classifier import ClassifierSplit, is_classifier
from kdlab.models.seq2seq import EncoderDecoder


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The largest micro-batch: B x T positions (a seq2seq decoder's, with B x S for its encoder), `rows` of them
    supervised."""

    batch: int
    width: int
    rows: int
    source: int | None = None


@dataclass(frozen=True, kw_only=True)
class Passes:
    """Bytes above the weights. `read` is the most of a forward pass without gradient. `kept` is what lives when the
    forward of a training step is over: activations, and the gradients of head and hidden states that the loss makes
    there; `forward` and `backward` are the most of either, the gradients of the weights among the latter."""

    read: int
    kept: int = 0
    forward: int = 0
    backward: int = 0


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within, `now` are the bytes of the tensors made since the beginning and still alive, `peak` the most there were.
    Tensors that share memory are counted once."""

    def __init__(self, existing: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._seen: Any = WeakIdKeyDictionary()
        for tensor in existing:
            self._seen[tensor.untyped_storage()] = None

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for value in tree_iter(out):
            if isinstance(value, Tensor):
                self._meet(value.untyped_storage())
        return out

    def _meet(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen[storage] = None
        held = storage.nbytes()
        self.now += held
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._let_go, held)

    def _let_go(self, held: int) -> None:
        self.now -= held


class _Heads(torch.autograd.Function):
    """In place of the loss engine: its gradients of hidden states and head exist when its forward is over."""

    @staticmethod
    def forward(ctx: Any, hidden_NH: Tensor, *head: Tensor) -> Tensor:
        needed = ctx.needs_input_grad
        tensors = (hidden_NH, *head)
        ctx.gradients = [torch.empty_like(t) if n else None for t, n in zip(tensors, needed, strict=True)]
        return hidden_NH.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> Any:
        return tuple(ctx.gradients)


def pretend(model: nn.Module, fake: Any) -> None:
    """Let the weights of a model on the meta device be fake tensors of the host: those choose the kernels, and so the
    memory, that a run would."""
    known: dict[int, Any] = {}

    def pretended(tensor: Tensor) -> Tensor:
        if id(tensor) not in known:
            made = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
            if isinstance(tensor, nn.Parameter):
                made = nn.Parameter(made, requires_grad=tensor.requires_grad)
            known[id(tensor)] = (made, tensor)  # with the old one, so that its id is not given again
        found: Tensor = known[id(tensor)][0]
        return found

    with fake:
        for module in model.modules():
            tables: list[dict[str, Any]] = [module._parameters, module._buffers]
            for table in tables:
                for name, tensor in table.items():
                    if tensor is not None:
                        table[name] = pretended(tensor)


def passes(model: Any, shape: Shape, *, fake: Any, autocast: torch.dtype | None, train: bool) -> Passes:
    """Run `model`, whose weights are of the mode `fake`: forward alone, and where `train` a step's forward and
    backward, under `autocast` to that type. Raises what the model raises where it cannot run without numbers."""
    with fake, torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        existing = [*model.parameters(), *model.buffers()]
        model.eval()
        with torch.no_grad(), LiveBytes(existing) as live:
            hidden = _hidden(model, shape)
            read = live.peak
            del hidden
        if not train:
            return Passes(read=read)
        model.train()
        with LiveBytes(existing) as live:
            hidden_BTH = _hidden(model, shape)
            hidden_NH = hidden_BTH.reshape(-1, hidden_BTH.shape[-1])[torch.arange(shape.rows)]
            head = head_of(model)
            weights = [] if head is None else [w for w in (head.weight, getattr(head, "bias", None)) if w is not None]
            loss = _Heads.apply(hidden_NH, *weights)  # type: ignore[no-untyped-call]
            kept, forward = live.now, live.peak
            del hidden_BTH, hidden_NH
            live.peak = live.now
            loss.backward()
            backward = live.peak
        model.zero_grad(set_to_none=True)
    return Passes(read=read, kept=kept, forward=forward, backward=backward)


def inner(model: Any) -> Any:
    """The model under the wrapper of peft."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def head_of(model: Any) -> Any:
    """The LM head, which the loss multiplies with; None of a classifier, whose forward gives logits."""
    return None if is_classifier(model) else inner(model).get_output_embeddings()


def _hidden(model: nn.Module, shape: Shape) -> Tensor:
    """The last hidden states [B, T, H] of a batch of that shape; of a classifier the logits [B, 1, C]."""
    bare = inner(model)
    B, T = shape.batch, shape.width
    ids_BT = torch.zeros(B, T, dtype=torch.long)
    if is_classifier(model):
        labels_BT, mask_BT = torch.zeros(B, 1, dtype=torch.long), torch.ones(B, T, dtype=torch.long)
        decisions = Batch(
            input_ids_BT=ids_BT, labels_BT=labels_BT, attention_mask_BT=mask_BT, shift=False, decides=True
        )
        return ClassifierSplit(bare).hidden(decisions)
    if shape.source is None:
        mask_BT = torch.ones(B, T, dtype=torch.long)
        hidden: Tensor = bare.base_model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).last_hidden_state
        return hidden
    both = EncoderDecoder(encoder=bare.get_encoder(), decoder=bare.get_decoder())
    ids_BS = torch.zeros(B, shape.source, dtype=torch.long)
    written = both(input_ids=ids_BS, attention_mask=torch.ones_like(ids_BS), decoder_input_ids=ids_BT)
    found: Tensor = written.last_hidden_state
    return found


def by_formula(
    *, layers: int, hidden: int, heads: int, shape: Shape, bytes_each: int, checkpointing: bool, gradients: int
) -> Passes:
    """For models that do not run on fake tensors: s b h L (34 + 5 a s / h) bytes in 16 bits, and 2 s b h L with
    checkpointing (Korthikanti et al., 2022, tables 2 and 3); 17 s b h of it live in one layer's forward."""
    positions = shape.batch * (shape.width + (shape.source or 0))
    longest = max(shape.width, shape.source or 0)
    scale = positions * hidden * bytes_each / 2
    layer = int(scale * (34 + 5 * heads * longest / hidden))
    kept = int(2 * scale * layers) if checkpointing else layer * layers
    read = int(17 * scale)
    most = kept + (layer if checkpointing else read)
    return Passes(read=read, kept=kept, forward=most, backward=most + gradients)
