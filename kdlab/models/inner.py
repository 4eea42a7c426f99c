"""Inner layers of a student and its teacher, caught while they read a batch, and the terms over them.

Shape letters: B batch, T time, N positions that are no padding, H hidden, A attention heads, K keys, F features of a
query, key or value.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import gcd
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.losses.inner_terms import attention_distance, hidden_distance, relation_distance
from kdlab.losses.sides import math_dtype
from kdlab.models.classifier import is_classifier
from kdlab.models.layer_map import LayerPair, layer_pairs
from kdlab.models.listener import Listener, hidden_of, map_of
from kdlab.models.positions import seen, weighty
from kdlab.models.progress import say
from kdlab.models.self_attention import SelfAttention, attend_eagerly, keep_every_key, looks_back, self_attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from kdlab.losses.inner import InnerConfig
    from kdlab.models.classifier import ClassifierSplit
    from kdlab.models.head import SplitModel

    Split = SplitModel | ClassifierSplit

HOLES = 0.02
"""How far from 1 the sum of an attention map may be: bfloat16 rounds that much."""


class InnerLayers(nn.Module):
    """Listens to both models and compares what their layers gave. Projections are its only parameters.

    At construction both models read four tokens: widths are seen, not guessed from configs, and what a model does not
    give is refused there. Raises ValueError, naming the option, for that and for layers that do not exist.
    """

    def __init__(self, config: InnerConfig, student: Split, teacher: Split, *, seed: int) -> None:
        super().__init__()
        self.config = config
        self._student, self._teacher = _Side(student, "student"), _Side(teacher, "teacher")
        ours, theirs = self._student.model, self._teacher.model
        self.pairs = layer_maps(config, ours, theirs)
        for name, pairs in self.pairs.items():
            for pair in pairs:
                self._student.want(name, pair.student)
                self._teacher.want(name, pair.teacher)
        if config.attention is not None:
            self._attend_openly()
        self.projections = nn.ModuleList()
        self.heads = 0
        devices = [device for device in {ours.device, theirs.device} if device.type == "cuda"]
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            with self.listening():
                for side in (self._student, self._teacher):
                    side.read_probe()
                self._fit()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within, the forward passes of student and teacher are listened to; at the end everything is let go."""
        with self._student.listener.listening(), self._teacher.listener.listening():
            yield

    def loss(self, batch: Batch, *, progress: float, count: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Σ weight * term / count, and each term's plain sum by name. Only inside `listening`.

        A term's sum is over the positions that are no padding (of a seq2seq model, the encoder's and the decoder's), of
        the mean over its pairs of layers; `count` is the number of these positions in the whole optimiser step. A row,
        or a document of a packed row, without a label is filler and weighs nothing.
        """
        total = torch.zeros((), device=batch.input_ids_BT.device)
        sums: dict[str, Tensor] = {}
        with torch.autocast(batch.input_ids_BT.device.type, enabled=False):
            for name, term in self.config.terms().items():
                weight = term.weight if term.anneal is None else term.anneal.at(term.weight, progress)
                value = self._sum(name, batch)
                total = total + weight / count * value
                sums[name] = value.detach()
        return total, sums

    def learned(self) -> dict[str, Tensor]:
        """The projections `[teacher's width, student's width]` by `student module -> teacher module`."""
        return {
            f"{pair.student} -> {pair.teacher}": projection.weight.detach()
            for pair, projection in zip(self.pairs.get("hidden", []), self.projections, strict=True)
            if isinstance(projection, nn.Linear)
        }

    def _sum(self, name: str, batch: Batch) -> Tensor:
        distances = {"hidden": self._hidden, "attention": self._attention, "relation": self._relation}
        pairs = self.pairs[name]
        parts = [pair.part for pair in pairs]
        on = {part: weighty(batch, part) for part in set(parts)}
        values = [
            distances[name](i, pair, batch, on[pair.part]).sum() / parts.count(pair.part)
            for i, pair in enumerate(pairs)
        ]
        return torch.stack(values).sum()

    def _hidden(self, i: int, pair: LayerPair, _batch: Batch, on_BT: Tensor) -> Tensor:
        assert self.config.hidden is not None
        student_NH = _wide(self._student.hidden(pair.student))[on_BT]
        teacher_NH = _wide(self._teacher.hidden(pair.teacher).to(on_BT.device))[on_BT]
        return hidden_distance(self.projections[i](student_NH), teacher_NH, self.config.hidden.distance)

    def _attention(self, _i: int, pair: LayerPair, _batch: Batch, on_BT: Tensor) -> Tensor:
        assert self.config.attention is not None
        student_NAK = _wide(self._student.map(pair.student).transpose(1, 2)[on_BT])
        teacher_NAK = _wide(self._teacher.map(pair.teacher).to(on_BT.device).transpose(1, 2)[on_BT])
        return attention_distance(student_NAK, teacher_NAK, self.config.attention.distance)

    def _relation(self, _i: int, pair: LayerPair, batch: Batch, on_BT: Tensor) -> Tensor:
        assert self.config.relation is not None
        module = self._student.attentions[pair.student].module
        causal = pair.part == "decoder" or (pair.part == "" and looks_back(module, self._student.model))
        seen_BTT = seen(batch, on_BT, causal=causal)
        distances = [
            relation_distance(
                _wide(self._student.features(pair.student, kind)),
                _wide(self._teacher.features(pair.teacher, kind).to(on_BT.device)),
                heads=self.heads,
                seen_BTT=seen_BTT,
                on_BT=on_BT,
            )
            for kind in self.config.relation.kinds
        ]
        return torch.stack(distances).sum(0)

    def _attend_openly(self) -> None:
        """Both models attend eagerly, the student's mapped layers without dropout of their maps; one line says so."""
        changed = [side.whose for side in (self._student, self._teacher) if side.attend_eagerly()]
        mapped = [self._student.attentions[pair.student] for pair in self.pairs["attention"]]
        holes = [keep_every_key(attention) for attention in mapped]
        told = [f"{' and '.join(changed)} attend eagerly (slower, more memory)"] if changed else []
        told += ["the student's mapped layers drop no attention"] if any(holes) else []
        if told:
            say(f"inner.attention: {'; '.join(told)}")

    def _fit(self) -> None:
        """From what the probe gave: projections between hidden widths, whether maps are maps, and relation heads."""
        dtype = math_dtype(self._student.model.dtype)
        for pair in self.pairs.get("hidden", []):
            ours, theirs = self._student.hidden(pair.student).shape[-1], self._teacher.hidden(pair.teacher).shape[-1]
            assert self.config.hidden is not None
            learns = self.config.hidden.project or ours != theirs
            projection = nn.Linear(ours, theirs, bias=False, dtype=dtype) if learns else nn.Identity()
            self.projections.append(projection.to(self._student.model.device))
        for pair in self.pairs.get("attention", []):
            self._student.check_map(pair.student)
            self._teacher.check_map(pair.teacher)
        if "relation" in self.pairs:
            self.heads = self._relation_heads()

    def _relation_heads(self) -> int:
        term = self.config.relation
        assert term is not None
        widths = {
            (side.whose, kind): side.features(name, kind).shape[-1]
            for pair in self.pairs["relation"]
            for side, name in ((self._student, pair.student), (self._teacher, pair.teacher))
            for kind in term.kinds
        }
        shared = gcd(*widths.values())
        most = max(attention.heads for attention in self._teacher.attentions.values())
        fitting = [heads for heads in range(1, most + 1) if shared % heads == 0]
        if term.heads is None:
            return fitting[-1]
        for (whose, kind), width in widths.items():
            if width % term.heads:
                raise ValueError(
                    f"inner.relation.heads={term.heads}: does not divide the {width} {kind} features of the {whose}; "
                    f"such as {', '.join(map(str, fitting[-3:]))} do on both sides"
                )
        return term.heads


def layer_maps(config: InnerConfig, student: PreTrainedModel, teacher: PreTrainedModel) -> dict[str, list[LayerPair]]:
    """Which layers meet, for each term by its name. Raises as `layer_pairs` does."""
    return {
        name: layer_pairs(term.map, student, teacher, option=f"inner.{name}", layers_only=name != "hidden")
        for name, term in config.terms().items()
    }


class _Side:
    """One of the two models, and what is heard of it."""

    def __init__(self, split: Split, whose: str) -> None:
        self.split, self.whose = split, whose
        wrapped: Any = split.model
        self.model: PreTrainedModel = wrapped.get_base_model() if hasattr(wrapped, "get_base_model") else wrapped
        self.listener = Listener()
        self.attentions: dict[str, SelfAttention] = {}

    def want(self, term: str, name: str) -> None:
        """Listen for what `term` needs of the module of that name."""
        if term == "hidden":
            self.listener.want(f"hidden of {name}", self.model.get_submodule(name), hidden_of)
            return
        attention = self_attention(self.model, name, option=f"inner.{term}")
        self.attentions[name] = attention
        if term == "attention":
            self.listener.want(f"map of {name}", attention.module, map_of)
            return
        for kind, module in attention.projections.items():
            self.listener.want(f"{kind} of {name}", module, hidden_of)

    def attend_eagerly(self) -> bool:
        try:
            changed = attend_eagerly(self.model)
        except (ValueError, ImportError) as error:
            raise ValueError(
                f"inner.attention: the {self.whose} cannot attend eagerly ({error}); leave it out"
            ) from error
        if changed:
            vars(self.split).pop("packing", None)  # how packed documents are kept apart was tried another way
        return changed

    def read_probe(self) -> None:
        """Run the body on four tokens as in training, so that dropout would show."""
        ids_BT = torch.arange(3, 7, device=self.model.device)[None]
        training = [module for module in self.model.modules() if module.training]
        self.model.train(self.whose == "student")
        try:
            with torch.no_grad():
                decides = is_classifier(self.model)
                self.split.hidden(
                    Batch(
                        input_ids_BT=ids_BT,
                        labels_BT=ids_BT[:, :1] if decides else ids_BT,
                        attention_mask_BT=torch.ones_like(ids_BT),
                        shift=not (decides or self.model.config.is_encoder_decoder),
                        decides=decides,
                    )
                )
        finally:
            self.model.eval()
            for module in training:
                module.training = True

    def hidden(self, name: str) -> Tensor:
        return self._heard(f"hidden of {name}", "inner.hidden", f"{name} gives no hidden states")

    def map(self, layer: str) -> Tensor:
        return self._heard(f"map of {layer}", "inner.attention", f"{layer} does not give its attention maps")

    def features(self, layer: str, kind: str) -> Tensor:
        found = self._heard(f"{kind} of {layer}", "inner.relation", f"{layer} gives no {kind} features")
        return self.attentions[layer].pick(found, kind)

    def check_map(self, layer: str) -> None:
        map_BATK = self.map(layer).float()
        if bool((map_BATK < 0).any()) or bool((map_BATK.sum(-1) - 1).abs().max() > HOLES):
            raise ValueError(
                f"inner.attention: what {layer} of the {self.whose} gives is no attention map "
                f"(its rows do not sum to 1); leave inner.attention out"
            )

    def _heard(self, what: str, option: str, otherwise: str) -> Tensor:
        found = self.listener.heard(what)
        if found is None:
            name = type(self.model).__name__
            raise ValueError(f"{option}: {otherwise} (the {self.whose}, {name}); leave {option} out or change its map")
        return found


def _wide(values: Tensor) -> Tensor:
    return values.to(math_dtype(values.dtype))
