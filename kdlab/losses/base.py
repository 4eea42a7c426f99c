"""Loss and RowLoss: the options every loss has, and what a row loss is. Importable without torch.

A row loss is its formula: a subclass writes `divergence`. Temperature, T², the hard-label term, chunks, masks,
normalisation and the fused LM head are the engine's (`losses.engine`), once. A subclass may add `closed_form`, the
same formula with its gradient, for speed; the laws hold it against autograd.

Shape letters: N rows, V vocabulary or classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log, log1p
from typing import TYPE_CHECKING, Any, ClassVar, Self

from kdlab.losses.anneal import Anneal

if TYPE_CHECKING:
    from torch import Tensor

VOCAB = ("strict", "shared")
TINY = 1e-37
"""A probability below every one that float32 can tell from 0 in a sum; keeps logarithms finite."""


def kl(a_NV: Tensor, b_NV: Tensor) -> Tensor:
    """KL(a ‖ b) = Σ_v a (log a - log b) of each row `[N]`, in nats, from log-probabilities `[N, V]`."""
    return (a_NV.exp() * (a_NV - b_NV)).sum(-1)


def mixture(a_NV: Tensor, b_NV: Tensor, weight: float) -> Tensor:
    """log(weight a + (1 - weight) b), `[N, V]`, from log-probabilities; 0 < weight < 1."""
    return (a_NV + log(weight)).logaddexp(b_NV + log1p(-weight))


def through_softmax(slope_NV: Tensor, q_NV: Tensor) -> Tensor:
    """dD/dz = q (s - Σ q s) from the slope s, which is dD/dq up to a constant per row. Overwrites both, returns q."""
    mean_N1 = (slope_NV * q_NV).sum(-1, keepdim=True)
    return q_NV.mul_(slope_NV.sub_(mean_N1))


@dataclass(kw_only=True)
class Loss:
    """What every loss has. `temperature` T divides both sides' logits; `hard_weight` w mixes in the labels'
    cross-entropy at T = 1, as `(1 - w) * divergence + w * CE`; either may move while training goes on.
    `chunk_rows` is how many rows' logits exist at a time.
    """

    temperature: float = 1.0
    hard_weight: float = 0.0
    temperature_anneal: Anneal | None = None
    hard_weight_anneal: Anneal | None = None
    chunk_rows: Any = "auto"

    needs_teacher: ClassVar[bool] = True

    def __post_init__(self) -> None:
        ends = [("temperature", self.temperature)]
        ends += [("temperature_anneal.to", self.temperature_anneal.to)] if self.temperature_anneal else []
        for name, value in ends:
            if not 0 < value < float("inf"):
                raise ValueError(f"loss.{name}={value}: must be > 0 and finite")
        ends = [("hard_weight", self.hard_weight)]
        ends += [("hard_weight_anneal.to", self.hard_weight_anneal.to)] if self.hard_weight_anneal else []
        for name, value in ends:
            if not 0 <= value <= 1:
                raise ValueError(f"loss.{name}={value}: must be between 0 and 1")
        rows = self.chunk_rows
        if rows != "auto" and not (isinstance(rows, int) and not isinstance(rows, bool) and rows > 0):
            raise ValueError(f"loss.chunk_rows={rows}: must be 'auto' or a whole number > 0")

    def at(self, progress: float) -> Self:
        """The loss with its annealed options where they are at `progress`, from 0 to 1."""
        if self.temperature_anneal is None and self.hard_weight_anneal is None:
            return self
        moved: dict[str, Any] = {"temperature_anneal": None, "hard_weight_anneal": None}
        if self.temperature_anneal is not None:
            moved["temperature"] = self.temperature_anneal.at(self.temperature, progress)
        if self.hard_weight_anneal is not None:
            moved["hard_weight"] = self.hard_weight_anneal.at(self.hard_weight, progress)
        return replace(self, **moved)

    @property
    def asks_teacher(self) -> bool:
        """Whether the teacher's predictions enter the loss at any time."""
        ends = [self.hard_weight] + ([self.hard_weight_anneal.to] if self.hard_weight_anneal else [])
        return self.needs_teacher and min(ends) < 1

    @property
    def pairing(self) -> str:
        """How the two vocabularies meet: "strict" (one and the same), "shared" (cut to the ids both have), "cross"
        (different tokenizers)."""
        raise TypeError(f"{type(self).__name__} does not say how it pairs vocabularies")


@dataclass(kw_only=True)
class RowLoss(Loss):
    """`(1 - hard_weight) * T² * divergence(q_T, p_T) + hard_weight * CE(q, labels)`, summed over rows.

    p is the teacher, q the student; p_T and q_T are their softmax at `temperature` T; the cross-entropy is at T = 1. T²
    applies where `t2_scale` is on: it keeps the size of a KL's gradient as T grows (Hinton et al., 2015), so it is the
    default in the KL family and a mere convention elsewhere. `compile` compiles the arithmetic between the matrix
    products, where a compiler is found; that of a sparse teacher (`losses.sparse`) is a few passes and stays eager.

    `vocab` "strict" wants heads of one size and one tokenizer. "shared" cuts both sides, before the softmax, to the
    ids that mean the same to both; it is refused where the teacher then loses more than `max_cut_mass` of its
    probability, on average over the held-out rows.
    """

    t2_scale: bool = False
    compile: bool = False
    vocab: str = "strict"
    max_cut_mass: float = 0.01

    space: ClassVar[str] = "log_probability"
    """What `divergence` reads: "log_probability" (log-softmax at T) or "logit" (logits / T)."""
    linear_in_teacher: ClassVar[bool] = False
    """Whether D is Σ p (-log q) and a term of the teacher's alone. Its gradient q - p is then linear in p, so that
    unbiased draws of p (`rows.Sampled`) give it without bias."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vocab not in VOCAB:
            raise ValueError(f"loss.vocab={self.vocab}: must be one of {', '.join(VOCAB)}")
        if self.compile and (self.temperature_anneal or self.hard_weight_anneal):
            raise ValueError(
                "loss.compile=true: an annealed temperature or hard_weight is compiled anew at every step; drop either"
            )
        if not 0 <= self.max_cut_mass <= 1:
            raise ValueError(f"loss.max_cut_mass={self.max_cut_mass}: must be between 0 and 1")

    @property
    def pairing(self) -> str:
        return self.vocab

    def divergence(self, student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
        """The divergence of each row `[N]`, in nats, >= 0 and 0 at p = q."""
        raise TypeError(f"{type(self).__name__} does not define divergence()")

    def closed_form(
        self, student_NV: Tensor, teacher_NV: Tensor, q_NV: Tensor, p_NV: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """`divergence` `[N]` and its gradient with respect to the student's logits / T `[N, V]`, or None: use autograd.

        `student_NV` and `teacher_NV` are what `divergence` reads, `q_NV` and `p_NV` their exponentials. All four are
        scratch: overwrite them freely. A gradient built inside `q_NV` saves the engine a copy. Not for "logit" space.
        """
        return None
