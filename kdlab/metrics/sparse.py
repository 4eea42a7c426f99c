"""What a teacher that tells of some tokens only says of a student: see `heldout.measure`.

Shape letters: C rows of one chunk, V vocabulary, K kept entries, J = K + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdlab.losses.sparse import exponentiate
from kdlab.rows import Sampled, TopK


def kl_of_top(signal: TopK, part: slice, logq_CV: Tensor, scratch_CV: Tensor) -> Tensor:
    """KL(p ‖ q) `[C]` over the kept entries and one bucket of all others: at most what it is over all entries.

    Overwrites `scratch_CV`.
    """
    ids_CK = signal.ids_NK[part].long()
    others_CV = torch.scatter(logq_CV, 1, ids_CK, -torch.inf, out=scratch_CV)
    _, rest_C1 = exponentiate(others_CV, others_CV)
    logq_CJ = torch.cat([logq_CV.gather(1, ids_CK), rest_C1], 1)
    # log_softmax takes out what a codec rounds, so that p sums to 1
    logp_CJ = torch.cat([signal.logp_NK[part], signal.rest_N[part, None]], 1).to(logq_CV.dtype).log_softmax(1)
    p_CJ = logp_CJ.exp()
    # 0 * log 0 is 0 in a KL, but nan in floats; rounding can leave an equal pair a hair below 0, which no KL is
    return ((logp_CJ - logq_CJ) * p_CJ).masked_fill_(p_CJ == 0, 0.0).sum(1).clamp_min_(0.0)


def kl_of_draws(signal: Sampled, part: slice, logq_CV: Tensor) -> Tensor | None:
    """Σ w (-log q) - H(p) `[C]`, over the draws KL(p ‖ q) on average and of a row below 0 at times. None without the
    teacher's entropy: what is left to compute, KL(w ‖ q), is too large."""
    if signal.entropy_N is None:
        return None
    weight_CK = signal.weight_NK[part].to(logq_CV.dtype)
    surprise_CK = logq_CV.gather(1, signal.ids_NK[part].long()).neg_()
    cross_C = surprise_CK.mul_(weight_CK).masked_fill_(weight_CK == 0, 0.0).sum(1)
    return cross_C - signal.entropy_N[part].to(logq_CV.dtype)


def label_logp(signal: TopK | Sampled, part: slice, labels_C1: Tensor) -> tuple[Tensor, int]:
    """Of a signal at temperature 1: the teacher's log-probabilities of the labels it tells of, and of how many it does
    not."""
    assert signal.temperature == 1
    if signal.logp_label_N is not None:
        return signal.logp_label_N[part], 0
    if isinstance(signal, Sampled):
        return labels_C1.new_zeros(0), len(labels_C1)
    kept_CK = signal.ids_NK[part] == labels_C1
    found = signal.logp_NK[part][kept_CK]
    return found, len(labels_C1) - len(found)
