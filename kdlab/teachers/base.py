"""What every teacher is, wherever its predictions come from: a tokenizer, an identity, and an answer to every batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from kdlab.batch import Batch
    from kdlab.models.classifier import ClassifierSplit
    from kdlab.models.head import SplitModel
    from kdlab.rows import Signal


class Teacher(Protocol):
    """`model` and `split` are None where the teacher is no model in this process: it then writes no text, has no inner
    layers and no speed. `description` is one phrase on where it came from, `identity` a hash of its content (weights,
    or signals), `vocabulary` the entries of its head, `disk_bytes` None where it lies on no disk.
    """

    @property
    def model(self) -> Any: ...

    @property
    def split(self) -> SplitModel | ClassifierSplit | None: ...

    @property
    def tokenizer(self) -> Any: ...

    @property
    def description(self) -> str: ...

    @property
    def identity(self) -> str: ...

    @property
    def disk_bytes(self) -> int | None: ...

    @property
    def vocabulary(self) -> int: ...

    def signal(self, batch: Batch, positions_N: Tensor) -> Signal:
        """The predictions at `positions_N`, indices into the flattened `[B * T]` positions of `batch`, in their order;
        without a graph, on the batch's device."""
        ...
