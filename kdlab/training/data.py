"""Training and held-out batches as a LightningDataModule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lightning.pytorch import LightningDataModule

from kdlab.batch import Batch
from kdlab.data.collate import padded
from kdlab.data.loader import StepLoader, heldout_batches, open_loader
from kdlab.data.loader_options import LoaderOptions
from kdlab.data.stream import TokenStream

if TYPE_CHECKING:
    from kdlab.data.dataset import Data
    from kdlab.data.labelled.store import LabelledStore
    from kdlab.data.store import TokenStore
    from kdlab.data.stream_loader import StreamLoader
    from kdlab.training.recipe import TrainConfig


class DistillData(LightningDataModule):  # type: ignore[misc]
    """The steps to train on, split over the ranks and resumable in the middle of an epoch, and the held-out batches."""

    def __init__(self, config: TrainConfig, data: Data, *, pad_id: int) -> None:
        super().__init__()
        self.config = config
        self.data = data
        self.pad_id = pad_id
        self.counted: dict[str, int] = {}
        self._training: StepLoader | StreamLoader | None = None

    def loader(self, *, rank: int, world: int) -> StepLoader | StreamLoader:
        trainer, dataset = self.config.trainer, self.config.dataset
        options = LoaderOptions(
            batch_size=trainer.batch_size,
            accumulate=trainer.accumulate,
            seed=self.config.seed,
            pad_id=self.pad_id,
            pack=dataset.pack,
            group_by_length=dataset.group_by_length,
            rank=rank,
            world=world,
            workers=trainer.workers,
            max_steps=trainer.max_steps,
        )
        return open_loader(self.data.train, options)

    def train_dataloader(self) -> StepLoader | StreamLoader:
        assert self.trainer is not None
        self._training = self.loader(rank=self.trainer.global_rank, world=self.trainer.world_size)
        return self._training

    def first(self, count: int) -> Batch | None:
        """The first `count` held-out examples in one batch; None where there are none."""
        store = self.data.heldout
        chosen = [store[i] for i in range(min(count, len(store)))]
        return padded(chosen, store.layout(pad_id=self.pad_id)) if chosen else None

    def test(self) -> Iterable[Batch]:
        """The rows to judge by at the end alone, as `heldout` has its own; none where the dataset names none."""
        return () if self.data.test is None else self._measured(self.data.test)

    def heldout(self) -> Iterable[Batch]:
        """The whole held-out split, or `benchmark.tokens` tokens of it, in the same order every time."""
        return self._measured(self.data.heldout)

    def _measured(self, store: TokenStore | LabelledStore) -> Iterable[Batch]:
        return heldout_batches(
            store,
            batch_size=self.config.trainer.batch_size,
            pad_id=self.pad_id,
            tokens=self.config.benchmark.tokens,
        )

    @property
    def stream_counts(self) -> dict[str, int] | None:
        """What has been read of the stream so far: rows, examples, tokens, what was cut or skipped.

        None for stored data, whose counts are the verdict's. `counted` is where a run that continues begins.
        """
        if not isinstance(self.data.train, TokenStream):
            return None
        counts: dict[str, int] = getattr(self._training, "counts", {})
        return counts or self.counted

    @property
    def hashes(self) -> dict[str, str]:
        """What the splits hold, as far as it is known before it is read."""
        train, test = self.data.train, self.data.test
        found = {
            "train": "stream" if isinstance(train, TokenStream) else train.content_hash,
            "heldout": self.data.heldout.content_hash,
        }
        return found if test is None else found | {"test": test.content_hash}
