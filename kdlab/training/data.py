"""Training and held-out batches as a LightningDataModule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lightning.pytorch import LightningDataModule

from kdlab.batch import Batch
from kdlab.data.loader import StepLoader, heldout_batches, open_loader
from kdlab.data.loader_options import LoaderOptions
from kdlab.data.store import TokenStore

if TYPE_CHECKING:
    from kdlab.data.dataset import Data
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

    def heldout(self) -> Iterable[Batch]:
        """The whole held-out split, or its first `benchmark.tokens` tokens, in the same order every time."""
        trainer, benchmark = self.config.trainer, self.config.benchmark
        return heldout_batches(
            self.data.heldout, batch_size=trainer.batch_size, pad_id=self.pad_id, tokens=benchmark.tokens
        )

    @property
    def stream_counts(self) -> dict[str, int] | None:
        """What has been read of the stream so far: rows, examples, tokens, what was cut or skipped.

        None for stored data, whose counts are the verdict's. `counted` is where a run that continues begins.
        """
        if isinstance(self.data.train, TokenStore):
            return None
        counts: dict[str, int] = getattr(self._training, "counts", {})
        return counts or self.counted

    @property
    def hashes(self) -> dict[str, str]:
        """What both splits hold, as far as it is known before it is read."""
        train = self.data.train
        return {
            "train": train.content_hash if isinstance(train, TokenStore) else "stream",
            "heldout": self.data.heldout.content_hash,
        }
