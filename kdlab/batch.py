"""Batch: padded token ids ready for a model. A step is the list of micro-batches of one optimiser step.

Shape letters: B batch, T time.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from kdlab.rows import asked


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One micro-batch.

    `labels_BT` holds the token id at every supervised position and `IGNORE` elsewhere; it is not shifted (see
    `rows.supervised`). A packed batch has `position_ids_BT`, restarting at 0 at every document, and no attention mask:
    the models tell documents apart by the restarts. `example_ids` name the examples for error messages.
    `padding` counts the padding that no attention mask tells: a packed batch's positions behind the last document of a
    row, and the one position of a filler.

    `shift` is False where position t predicts label t: a seq2seq batch, whose `input_ids_BT` and mask are the
    encoder's `[B, S]` and whose `labels_BT` are the decoder's `[B, T]` (its inputs are made from them).

    Where the teacher has a tokenizer of its own, `teacher` is the same examples as that tokenizer reads them, and
    `starts_BT`, `ends_BT` tell where in the bytes of the text each token of `labels_BT` lies (-1: nowhere). Where only
    its prompt is its own, `teacher` has the same labels, in the same order, at other positions.

    `decides`: one decision an example. `labels_BT` is then `[B, 1]`, classes (int64) or numbers (float32), and `shift`
    False; a teacher that reads the texts as another tokenizer cuts them has a `teacher` batch with the same labels. A
    filler's label is `IGNORE`, of a regression nan.
    """

    input_ids_BT: Tensor
    labels_BT: Tensor
    attention_mask_BT: Tensor | None = None
    position_ids_BT: Tensor | None = None
    example_ids: tuple[int, ...] = ()
    padding: int = 0
    shift: bool = True
    starts_BT: Tensor | None = None
    ends_BT: Tensor | None = None
    teacher: Batch | None = None
    decides: bool = False

    def model_inputs(self) -> dict[str, Tensor]:
        """Keyword arguments for a transformers model's body."""
        inputs = {"input_ids": self.input_ids_BT}
        if self.attention_mask_BT is not None:
            inputs["attention_mask"] = self.attention_mask_BT
        if self.position_ids_BT is not None:
            inputs["position_ids"] = self.position_ids_BT
        return inputs

    def to(self, device: torch.device | str) -> Batch:
        moved: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in moved.items():
            if isinstance(value, Tensor | Batch):
                moved[name] = value.to(device)
        return replace(self, **moved)

    @property
    def tokens(self) -> int:
        """Positions that are not padding; of a seq2seq batch, the encoder's and the supervised ones."""
        if not self.shift and not self.decides:
            assert self.attention_mask_BT is not None
            return int(self.attention_mask_BT.sum()) + self.rows - self.padding
        if self.attention_mask_BT is not None:
            return int(self.attention_mask_BT.sum()) - self.padding
        return self.input_ids_BT.numel() - self.padding

    @property
    def rows(self) -> int:
        """Supervised predictions in this batch; with `shift` the first column predicts nothing."""
        labels_BT = self.labels_BT[:, 1:] if self.shift else self.labels_BT
        return int(asked(labels_BT).sum())


Step = list[Batch]
"""The micro-batches of one optimiser step: the loss is divided by the rows of all of them, on all ranks."""
