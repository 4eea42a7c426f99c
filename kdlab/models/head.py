"""Body and head of a language model, apart: the loss engine wants the hidden states and the head's weight, never the
logits of a whole batch. Of an encoder-decoder model the body is both its stacks, and the hidden states the decoder's.

A split is believed only when it is seen to give the model's own logits: at construction the model answers a few random
ids, its last hidden states made large enough for a scale or a soft cap to show. Where no split reproduces the logits,
the model is run whole and answers with `Dense` logits, and that is said.

Shape letters: B batch, T time, N rows, V vocabulary, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.models.progress import say
from kdlab.models.seq2seq import decoder_inputs, is_seq2seq, stacks
from kdlab.rows import Dense, Projected, Side

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROBE_LOGITS = 20.0
"""The probe's logits have about this standard deviation: a soft cap of 30 changes them visibly."""
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9, torch.bfloat16: 3e-2, torch.float16: 1e-2}
"""Largest difference allowed between split and model, as a share of the largest logit."""


class SplitModel:
    """`hidden` runs the body, `project` describes (or, where it must, applies) the head.

    `mode` says how much of the split held: "projected" (head weight, bias, scale and soft cap are known), "head" (the
    head is a module without a plain weight matrix: quantised or adapted) or "whole" (only the logits are known).
    The model keeps its parameters, its train or eval mode and its adapters; nothing here owns weights.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # under a peft wrapper
        self._head: Any = self._inner.get_output_embeddings()
        self._body: Callable[..., Any] | None = None
        self.seq2seq = is_seq2seq(self._inner)
        late = getattr(self._inner, "final_logits_bias", None)  # BART and its kin add it behind the head: mostly zeros
        self._biased = late is not None and bool(late.any())
        self.scale: float = 1.0
        self.softcap: float | None = None
        with evaluating(self._inner), torch.no_grad():
            self.mode = self._choose()
        if self.mode == "whole":
            name = type(self._inner).__name__
            say(f"{name}: no split into body and head gives its logits; it runs whole (slower)")

    def hidden(self, batch: Batch) -> Tensor:
        """The last hidden states `[B, T, H]`, with the graph where gradients are on ("whole": the logits `[B, T, V]`).

        Of an encoder-decoder model, those of the decoder, which reads the labels shifted right: position t predicts
        label t. No cache is made: with one, packed documents would see each other. Raises ValueError for a packed
        batch when the model cannot keep documents apart.
        """
        inputs = batch.model_inputs()
        if batch.position_ids_BT is not None and batch.attention_mask_BT is None:
            if self.packing == "none":
                name = type(self._inner).__name__
                raise ValueError(
                    f"dataset.pack=true: {name} cannot keep packed documents apart; set dataset.pack=false"
                )
            if self.packing == "mask":
                inputs["attention_mask"] = document_mask(batch.position_ids_BT, self._inner.dtype)
        assert batch.shift != self.seq2seq, "a seq2seq batch is for an encoder-decoder model, and no other batch is"
        if self.seq2seq:
            inputs["decoder_input_ids"] = decoder_inputs(self._inner, batch.labels_BT)
        return self._run(inputs)

    def project(self, hidden_NH: Tensor) -> Side:
        """What some rows of `hidden` predict; weight and bias are the live parameters."""
        if self.mode == "whole":
            return Dense(logits_NV=hidden_NH)
        if self.mode == "head":
            return Dense(logits_NV=_finish(self._logits(hidden_NH), self.scale, self.softcap))
        return Projected(
            hidden_NH=hidden_NH,
            weight_VH=self._head.weight,
            bias_V=self._bias,
            scale=self.scale,
            softcap=self.softcap,
        )

    @property
    def vocabulary(self) -> int:
        """Entries of the head, padding included."""
        config = self._inner.config.get_text_config()
        return int(getattr(config, "decoder_vocab_size", None) or config.vocab_size)

    @property
    def _bias(self) -> Tensor | None:
        """What is added to `hidden @ weight.T`, `[V]`."""
        bias: Tensor | None = self._inner.final_logits_bias[0] if self._biased else getattr(self._head, "bias", None)
        return bias

    def _logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self._head(hidden)
        return logits + self._inner.final_logits_bias if self._biased else logits

    @cached_property
    def packing(self) -> str:
        """How packed documents are kept apart, tried once: by "positions" that restart, by an explicit "mask", or
        "none" (encoder-decoder models, those with recurrent layers or masks of their own)."""
        if self.seq2seq:
            return "none"
        ids_BT = _probe_ids(self._inner)[:1]
        half = ids_BT.shape[1] // 2
        positions_BT = torch.arange(half, device=ids_BT.device).repeat(2)[None]
        mask = document_mask(positions_BT, self._inner.dtype)
        with evaluating(self._inner), torch.no_grad():
            alone = self._run({"input_ids": ids_BT[:, half:]})
            for name, extra in (("positions", {}), ("mask", {"attention_mask": mask})):
                try:
                    together = self._run({"input_ids": ids_BT, "position_ids": positions_BT} | extra)
                except (TypeError, ValueError, RuntimeError):  # it takes no such argument, or not in this shape
                    continue
                if _close(together[:, half:], alone, slack=10.0):
                    return name
        return "none"

    def _run(self, inputs: dict[str, Tensor]) -> Tensor:
        if self.mode == "whole":
            logits: Tensor = self._inner(**inputs, use_cache=False).logits
            return logits
        assert self._body is not None
        hidden: Tensor = self._body(**inputs, use_cache=False).last_hidden_state
        return hidden

    def _choose(self) -> str:
        if self._head is None:
            return "whole"
        inputs = _probe_inputs(self._inner)
        for run, listened in self._bodies():
            seen = self._probe(listened, inputs)
            if seen is None:
                continue
            hidden, large, logits = seen
            if not _close(run(**inputs, use_cache=False).last_hidden_state, hidden):
                continue
            raw = self._logits(large)
            for scale, softcap in _candidates(self._inner.config.get_text_config()):
                if _close(_finish(raw, scale, softcap), logits):
                    self._body, self.scale, self.softcap = run, scale, softcap
                    return "projected" if _is_plain(self._head, self._bias, large, raw) else "head"
        return "whole"

    def _bodies(self) -> Iterator[tuple[Callable[..., Any], nn.Module]]:
        """What may be the body, and the module whose hidden states its head reads."""
        if self.seq2seq:
            both = stacks(self._inner)
            if both is not None:
                yield both, both.decoder
            return
        for body in (self._inner.base_model, self._inner.get_decoder()):  # OPT calls its decoder past its base model
            if body is not self._inner:
                yield body, body

    def _probe(self, body: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor] | None:
        """What `body` gave inside the model, the same made large, and the model's own logits for the large one."""
        kept: list[Tensor] = []

        def enlarge(_module: nn.Module, _arguments: Any, output: Any) -> Any:
            hidden = output.last_hidden_state
            spread = self._head(hidden).float().std().clamp(min=1e-6)
            kept[:] = hidden, (hidden.float() * (PROBE_LOGITS / spread)).to(hidden.dtype)
            output.last_hidden_state = kept[1]
            return output

        handle = body.register_forward_hook(enlarge)
        try:
            logits = self._inner(**inputs, use_cache=False).logits
        finally:
            handle.remove()
        return (kept[0], kept[1], logits) if kept else None


def document_mask(position_ids_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """An additive attention mask `[B, 1, T, T]`, causal and closed between documents: a document starts where the
    position is 0."""
    document_BT = (position_ids_BT == 0).cumsum(dim=1)
    same_BTT = document_BT[:, :, None] == document_BT[:, None, :]
    seen_BTT = same_BTT & torch.ones_like(same_BTT[0]).tril()
    return torch.where(seen_BTT, 0.0, torch.finfo(dtype).min).to(dtype)[:, None]


def _candidates(config: Any) -> Iterator[tuple[float, float | None]]:
    """Scales and soft caps that the config speaks of, the most telling first: the probe decides."""
    caps = [getattr(config, name, None) for name in ("final_logit_softcapping", "logits_soft_cap")]
    scales: list[float] = []
    for name in ("logit_scale", "logits_scaling", "lm_head_multiplier", "dim_model_base"):
        value = getattr(config, name, None)
        if isinstance(value, (int, float)) and value:
            value = value / config.hidden_size if name == "dim_model_base" else value
            scales += [float(value), 1.0 / float(value)]  # some multiply, some divide
    if getattr(config, "is_encoder_decoder", False):
        scales.append(config.hidden_size**-0.5)  # T5, where its head is its embedding
    for cap in [*(float(c) for c in caps if c), None]:
        for scale in [*scales, 1.0]:
            yield scale, cap


def _finish(logits: Tensor, scale: float, softcap: float | None) -> Tensor:
    logits = logits * scale
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def _is_plain(head: Any, bias: Tensor | None, hidden: Tensor, logits: Tensor) -> bool:
    """Whether `head` is one floating-point matrix and `bias`, neither packed (quantised) nor adapted (peft)."""
    weight: Any = getattr(head, "weight", None)
    if type(weight) not in (Tensor, nn.Parameter) or not weight.is_floating_point():
        return False
    if type(head).__module__.startswith("peft.") or not hasattr(head, "bias"):
        return False
    if weight.shape != (logits.shape[-1], hidden.shape[-1]) or weight.dtype != hidden.dtype:
        return False
    return _close(nn.functional.linear(hidden, weight, bias), logits)


def _close(found: Tensor | None, wanted: Tensor | None, *, slack: float = 1.0) -> bool:
    if found is None or wanted is None or found.shape != wanted.shape:
        return False
    allowed = slack * TOLERANCE[wanted.dtype] * wanted.abs().max()
    return bool((found - wanted).abs().max() <= allowed)


def _probe_ids(model: PreTrainedModel) -> Tensor:
    """Random ids `[2, 8]`, always the same; the global random state is left alone."""
    entries = model.get_input_embeddings().weight.shape[0]
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, entries, (2, 8), generator=draw).to(model.device)


def _probe_inputs(model: PreTrainedModel) -> dict[str, Tensor]:
    """What the probe asks; of an encoder-decoder model with padding in one source, so that a lost mask shows."""
    ids_BT = _probe_ids(model)
    if not is_seq2seq(model):
        return {"input_ids": ids_BT}
    mask_BS = torch.ones_like(ids_BT)
    mask_BS[1, -3:] = 0
    written_BT = ids_BT.flip(1)[:, :5] % (getattr(model.config, "decoder_vocab_size", None) or ids_BT.max() + 1)
    return {"input_ids": ids_BT, "attention_mask": mask_BS, "decoder_input_ids": written_BT}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No dropout inside; every module's mode is put back after."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
