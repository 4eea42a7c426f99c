"""Inner-layer terms: what besides the predictions a student is asked to match. Importable without torch.

The formulas are in `losses.inner_terms`; which layers meet which is `models.layer_map`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

from kdlab.losses.anneal import Anneal

MAPS = ("even", "last")
HIDDEN_DISTANCES = ("mse", "cosine")
ATTENTION_DISTANCES = ("kl", "mse")
RELATIONS = ("query", "key", "value")


@dataclass(kw_only=True)
class InnerTerm:
    """`weight` times the term, which may move by `anneal`. `map` says which student layer learns from which of the
    teacher's: "even" (the student's layers spread over the teacher's, last to last), "last" (the last of each), or
    pairs, as [[0, 1], [1, 3]] by number or {model.layers.0: model.layers.1} by module name. An encoder and a
    decoder are mapped each by itself; there, pairs go by name.
    """

    weight: float = 1.0
    map: Any = "even"
    anneal: Anneal | None = None

    option: ClassVar[str] = "inner"

    def __post_init__(self) -> None:
        ends = [("weight", self.weight)] + ([("anneal.to", self.anneal.to)] if self.anneal else [])
        for name, value in ends:
            if not (isfinite(value) and value >= 0):
                raise ValueError(f"{self.option}.{name}={value}: must be >= 0 and finite")
        if not (self.map in ("???", *MAPS) if isinstance(self.map, str) else _names(self.map) or _numbers(self.map)):
            raise ValueError(
                f"{self.option}.map={self.map}: must be one of {', '.join(MAPS)}, pairs of layer numbers such as "
                f"[[0,1],[1,3]], or {{student module: teacher module}} by name"
            )


@dataclass(kw_only=True)
class HiddenTerm(InnerTerm):
    """Hidden states behind each layer (the last layer's before the final norm): mean squared error, or 1 - cosine.
    Where the widths differ, or with `project: true`, the student's go through a learned linear projection, trained
    along and not exported. By name, `map` takes any module that gives hidden states."""

    distance: str = "mse"
    project: bool = False

    option: ClassVar[str] = "inner.hidden"

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of(f"{self.option}.distance", self.distance, HIDDEN_DISTANCES)


@dataclass(kw_only=True)
class AttentionTerm(InnerTerm):
    """Self-attention maps, averaged over heads where their numbers differ: KL(teacher ‖ student) over the keys of each
    query, or "mse", the squared error summed over them. Both models then attend eagerly, and the mapped layers of the
    student without attention dropout. Attention from decoder to encoder is left alone."""

    distance: str = "kl"

    option: ClassVar[str] = "inner.attention"

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of(f"{self.option}.distance", self.distance, ATTENTION_DISTANCES)


@dataclass(kw_only=True)
class RelationTerm(InnerTerm):
    """MiniLMv2's self-relations (Wang et al., 2021): KL between softmax(A Aᵀ / sqrt(d)) of teacher and student, summed
    over the A in `of` (None: query, key and value), its features split anew into `heads` (None: as many as divide the
    features of both sides, up to the teacher's attention heads). A is as projected: before any rotary position."""

    of: list[str] | None = None
    heads: int | None = None
    map: Any = "last"

    option: ClassVar[str] = "inner.relation"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.of is not None and (not self.of or len(set(self.of)) < len(self.of) or set(self.of) - {*RELATIONS}):
            raise ValueError(
                f"{self.option}.of={self.of}: must be null or a list of some of {', '.join(RELATIONS)}, each once"
            )
        if self.heads is not None and self.heads < 1:
            raise ValueError(f"{self.option}.heads={self.heads}: must be null or at least 1")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which of query, key and value are related."""
        return RELATIONS if self.of is None else tuple(self.of)


@dataclass(kw_only=True)
class InnerConfig:
    """Terms over inner layers, added to the loss: each is a mean over the positions that are no padding, and over the
    pairs of layers. Of a seq2seq model the encoder's and the decoder's positions are counted together."""

    hidden: HiddenTerm | None = None
    attention: AttentionTerm | None = None
    relation: RelationTerm | None = None

    def terms(self) -> dict[str, InnerTerm]:
        """The terms that are asked for, by name."""
        found = {"hidden": self.hidden, "attention": self.attention, "relation": self.relation}
        return {name: term for name, term in found.items() if term is not None}


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in ("???", *allowed):
        raise ValueError(f"{option}={value}: must be one of {', '.join(allowed)}")


def _names(asked: Any) -> bool:
    """Whether it is one or more pairs of module names."""
    return isinstance(asked, dict) and bool(asked) and all(isinstance(n, str) and n for p in asked.items() for n in p)


def _numbers(asked: Any) -> bool:
    """Whether it is one or more pairs of layer numbers."""
    if not isinstance(asked, list) or not asked or not all(isinstance(p, list) and len(p) == 2 for p in asked):
        return False
    return all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for pair in asked for n in pair)
