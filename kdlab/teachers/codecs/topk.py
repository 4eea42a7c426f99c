"""The K most likely entries of each row, packed, and the mass of the rest.

Shape letters: N rows, n rows of one entry, K entries kept, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from kdlab.teachers.codecs.base import Codec, Payload

if TYPE_CHECKING:
    from torch import Tensor

    from kdlab.rows import Projected, Side, Signal, TopK


@dataclass(kw_only=True)
class TopKCodec(Codec):
    """`k` entries of each row with their log-probabilities in steps of `step` nats (0: exactly, in 32 bits), and the
    exact mass of all others. Where the vocabulary has no more than `k` entries, all are kept and nothing is left over.
    """

    k: int = 128
    step: float = 1 / 32

    name: ClassVar[str] = "topk"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k < 1:
            raise ValueError(f"codec.k={self.k}: must be at least 1")
        if not (self.step == 0 or 1e-3 <= self.step <= 1):
            raise ValueError(f"codec.step={self.step}: must be from 0.001 to 1 nat, or 0 to keep exact values")

    @property
    def bound(self) -> str:
        kept = f"the {self.k} most likely tokens and the mass of all others"
        return f"{kept}, exact" if self.step == 0 else f"{kept}; each log-probability kept within {self.step:g} nats"

    def bytes_per_row(self, vocabulary: int, hidden: int) -> float:
        kept = min(self.k, vocabulary)
        return 6 + kept * (0.85 + (0.95 if self.step else 3.8))

    def encode(self, signal: Signal, labels_N: Tensor, *, lengths: Sequence[int], seeds: Sequence[int]) -> list[bytes]:
        from kdlab.rows import TopK
        from kdlab.teachers.codecs.reading import side_of, spans

        parts = spans(signal, labels_N, lengths)
        if isinstance(signal, TopK):
            told = self._checked(signal)
            return [self._packed(signal.vocabulary, *(_rows(all_N, span) for all_N in told)) for span in parts]
        side = side_of(signal, self.name)
        return [self._packed(side.vocabulary, *self._chosen(side, span, labels_N)) for span in parts]

    def decode(
        self, payloads: Sequence[Payload], *, lengths: Sequence[int], vocabulary: int, head: Projected | None = None
    ) -> TopK:
        import numpy as np
        import torch

        from kdlab.rows import TopK
        from kdlab.teachers.codecs.levels import restored
        from kdlab.teachers.codecs.packing import floats, joined

        kept = min(self.k, vocabulary)
        entries = [self._unpacked(payload, n, kept, vocabulary) for payload, n in zip(payloads, lengths, strict=True)]
        ids_P, value_P, rest_N, label_N = (joined([entry[field] for entry in entries]) for field in range(4))
        rest_N = floats(rest_N, 4).copy()
        value_NK = value_P.reshape(-1, kept)
        logp_NK = -floats(value_NK, 4) if self.step == 0 else restored(value_NK, rest_N, self.step)
        known = len(label_N) == len(rest_N)
        label_N = floats(label_N, 4 if self.step == 0 else 2).astype(np.float32)
        return TopK(
            ids_NK=torch.from_numpy(ids_P.astype(np.int64).reshape(-1, kept)),
            logp_NK=torch.from_numpy(logp_NK),
            rest_N=torch.from_numpy(rest_N),
            vocabulary=vocabulary,
            temperature=self.temperature,
            logp_label_N=torch.from_numpy(label_N) if known else None,
        )

    def _chosen(self, side: Side, span: tuple[int, int], labels_N: Tensor) -> tuple[Tensor, ...]:
        """Ids, log-probabilities, rest and the label's of an entry, of a teacher that tells everything."""
        import torch

        from kdlab.teachers.codecs.reading import log_probabilities

        kept = min(self.k, side.vocabulary)
        chunks = []
        for logp_nV, label_n in log_probabilities(side, span, labels_N, self.temperature):
            logp_nK, ids_nK = logp_nV.topk(kept, dim=1)
            chunks.append((ids_nK, logp_nK, rest_of(logp_nV, ids_nK, logp_nK), label_n))
        if chunks:
            return tuple(torch.cat(part) for part in zip(*chunks, strict=True))
        none_NK, none_N = torch.zeros(0, kept), torch.zeros(0)
        return none_NK.long(), none_NK, none_N, none_N

    def _checked(self, signal: TopK) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """The same, of a teacher that tells its K most likely entries."""
        import torch

        told, kept = signal.ids_NK.shape[1], min(self.k, signal.vocabulary)
        if signal.temperature != self.temperature:
            raise ValueError(
                f"codec.temperature={self.temperature:g}: this teacher tells log-probabilities at temperature "
                f"{signal.temperature:g} only; set codec.temperature={signal.temperature:g}"
            )
        if told < kept:
            raise ValueError(
                f"codec.k={self.k}: this teacher tells of {told} tokens a row; set codec.k={told}, or "
                f"teacher.server.k={self.k} where the server allows as many"
            )
        logp_NK, order_NK = signal.logp_NK.sort(dim=1, descending=True, stable=True)
        rest_N = torch.logaddexp(signal.rest_N, logp_NK[:, kept:].logsumexp(1)) if told > kept else signal.rest_N
        ids_NK = signal.ids_NK.gather(1, order_NK[:, :kept])
        return ids_NK, logp_NK[:, :kept], rest_N.clamp(max=0), signal.logp_label_N

    def _packed(
        self, vocabulary: int, ids_nK: Tensor, logp_nK: Tensor, rest_n: Tensor, label_n: Tensor | None
    ) -> bytes:
        import numpy as np

        from kdlab.teachers.codecs.levels import levels
        from kdlab.teachers.codecs.numbering import numbered
        from kdlab.teachers.codecs.packing import bits, pack
        from kdlab.teachers.codecs.reading import halves

        exact_nK = logp_nK.float().cpu().numpy()
        value_nK = bits(np.abs(exact_nK)) if self.step == 0 else levels(exact_nK, self.step)
        ids_P = ids_nK.cpu().numpy().reshape(-1)
        fields, order_P = numbered(ids_P, np.full(len(ids_nK), ids_nK.shape[1]), vocabulary)
        label: Any = np.zeros(0, np.float16)
        if label_n is not None:
            label = label_n.float().cpu().numpy() if self.step == 0 else halves(label_n)
        rest = bits(rest_n.float().cpu().numpy())
        return pack([*fields, value_nK.reshape(-1)[order_P], rest, bits(label)])

    def _unpacked(self, payload: Payload, rows: int, kept: int, vocabulary: int) -> tuple[Any, ...]:
        from kdlab.teachers.codecs.numbering import ids_of
        from kdlab.teachers.codecs.packing import FOREIGN, unpack

        size = rows * kept
        table, gaps, values, rest, label = unpack(payload, (size, size, size, rows, rows))
        if not (len(gaps) == len(values) == size and len(rest) == rows and len(label) in (0, rows)):
            raise ValueError(f"{FOREIGN} (other rows)")
        return ids_of(table, gaps, kept, vocabulary), values, rest, label


def _rows(all_N: Any, span: tuple[int, int]) -> Any:
    return None if all_N is None else all_N[slice(*span)]


def rest_of(logp_nV: Tensor, ids_nK: Tensor, logp_nK: Tensor) -> Tensor:
    """The log of the mass of all entries but `ids`; from whichever of the two masses is the smaller, as the other is
    then lost in rounding. Overwrites `logp_nV`."""
    import torch

    if ids_nK.shape[1] == logp_nV.shape[1]:
        return torch.full_like(logp_nK[:, 0], -torch.inf)
    head_n = logp_nK.logsumexp(1)
    rest_n = logp_nV.scatter_(1, ids_nK, -torch.inf).logsumexp(1)
    return torch.where(head_n < rest_n, torch.log1p(-head_n.exp().clamp(max=0.5)), rest_n.clamp(max=0))
