"""Inner-layer terms: what besides the predictions a student is asked to match. Importable without torch.

The formulas are in `losses.inner_terms`; which layers meet which is `models.layer_map`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kdlab.losses.anneal import Anneal

HIDDEN_DISTANCES = ("mse", "cosine")
ATTENTION_DISTANCES = ("kl", "mse")
RELATIONS = ("query", "key", "value")


@dataclass(kw_only=True)
class InnerTerm:
    """`weight` times the term, which may move by `anneal`. `map` says which student layer learns from which of the
    teacher's: "even" (the student's layers spread over the teacher's, last to last), "last" (the last of each), or
    pairs, as [[0, 1], [1, 3]] by number or {"model.layers.0": "model.layers.1"} by module name.
    """

    weight: float = 1.0
    map: Any = "even"
    anneal: Anneal | None = None


@dataclass(kw_only=True)
class HiddenTerm(InnerTerm):
    """Hidden states behind each layer: mean squared error, or 1 - cosine. Where the widths differ, or with
    `project: true`, the student's go through a learned linear projection, trained along and not exported."""

    distance: str = "mse"
    project: bool = False


@dataclass(kw_only=True)
class AttentionTerm(InnerTerm):
    """Attention maps, averaged over heads where their numbers differ: KL(teacher ‖ student) or mean squared error."""

    distance: str = "kl"


@dataclass(kw_only=True)
class RelationTerm(InnerTerm):
    """MiniLMv2's self-relations (Wang et al., 2021): KL between softmax(A Aᵀ / sqrt(d)) of teacher and student, for
    each A in `of`, its features split anew into `heads`."""

    of: list[str] | None = None
    heads: int | None = None
    map: Any = "last"


@dataclass(kw_only=True)
class InnerConfig:
    """Terms over inner layers, added to the loss: each is a mean over the positions that are no padding."""

    hidden: HiddenTerm | None = None
    attention: AttentionTerm | None = None
    relation: RelationTerm | None = None

    def terms(self) -> dict[str, InnerTerm]:
        """The terms that are asked for, by name."""
        found = {"hidden": self.hidden, "attention": self.attention, "relation": self.relation}
        return {name: term for name, term in found.items() if term is not None}
