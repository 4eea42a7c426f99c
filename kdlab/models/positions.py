"""Which positions of a batch the inner terms are over, and which of them see each other.

Shape letters: B batch, T time, G documents of a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.rows import asked


def weighty(batch: Batch, part: str) -> Tensor:
    """The positions `[B, T]` of a part of the models ("encoder", "decoder", or "" where there is one stack only) that
    count: no padding, and in a row or packed document that has a label. Without one it is filler, or the padding behind
    the last document."""
    labelled_BT = asked(batch.labels_BT)
    if part == "decoder":
        return labelled_BT
    on_BT = torch.ones_like(batch.input_ids_BT, dtype=torch.bool)
    if batch.attention_mask_BT is not None:
        on_BT = batch.attention_mask_BT.bool()
    if batch.position_ids_BT is None:
        return on_BT & labelled_BT.any(1, keepdim=True)
    document_BT = documents(batch.position_ids_BT)
    labels_BG = torch.zeros_like(document_BT).scatter_add_(1, document_BT, labelled_BT.to(document_BT.dtype))
    return on_BT & (labels_BG.gather(1, document_BT) > 0)


def seen(batch: Batch, on_BT: Tensor, *, causal: bool) -> Tensor:
    """Which keys a query may be related to `[B, T, T]`: those that are `on_BT` and in its document, with `causal` none
    behind it; itself always, so that every softmax has a key."""
    seen_BTT = on_BT[:, None, :].expand(-1, on_BT.shape[1], -1)
    if causal:
        seen_BTT = seen_BTT & torch.ones_like(seen_BTT[0]).tril()
    if batch.position_ids_BT is not None:
        document_BT = documents(batch.position_ids_BT)
        seen_BTT = seen_BTT & (document_BT[:, :, None] == document_BT[:, None, :])
    return seen_BTT | torch.eye(on_BT.shape[1], dtype=torch.bool, device=on_BT.device)


def documents(position_ids_BT: Tensor) -> Tensor:
    """The number of each position's document in its row, from 0: one starts where the position is 0."""
    return ((position_ids_BT == 0).cumsum(1) - 1).clamp(min=0)
